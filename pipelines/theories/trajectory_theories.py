"""Theories of networks in time on one dataset, at the times at which they are looked at.

Per dataset: output_mean and predictive_variance (time, test), learnability (time, component), loss,
mse_mean, mse_sample, weight_norm and numerical_error (time,); where the campaign observes them also
hidden_variance (time, part), kernel (time, layer, probe, probe), and with the times before
kernel_lag (time, lag, layer, probe, probe) and output_covariance (time, lag, probe). Times are in
relaxation times of the prior, those of `theory.dynamics` times T.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipelines.theories.ensemble_theories import (
    Prediction,
    Problem,
    cut,
    nngp,
    prior_weights,
    summary,
)
from storage.arrays.schema import Variable
from storage.campaign.spec import PROBES, has_overlaps
from storage.campaign.theory_spec import PARTICLE_THEORIES
from theory.dynamics import gradient_flow, mean_field, volterra
from theory.dynamics.mean_field import REPLICAS, MeanField
from theory.dynamics.particles import Averages
from theory.dynamics.two_time import TwoTimeKernels
from theory.kernels import nngp_and_ntk
from theory.kernels.fully_connected import Kernels
from theory.regression.exact import Posterior

PARTICLES = 8192  # of each replica of the mean field: its error is below that of the chains
# What has an error of its own where a theory is of particles, as `loss_error`.
WITH_ERRORS = {"loss", "learnability", "mse_mean", "weight_norm", "hidden_variance"}
_TIME = ("cell", "dataset", "time")
VARIABLES = {
    "loss": Variable(_TIME, "f8", "mean training loss over the ensemble"),
    "weight_norm": Variable(_TIME, "f8", "mean squared norm of the readout weights"),
    "numerical_error": Variable(_TIME, "f8", "largest numerical error of the mean output"),
}
TWO_TIMES = {
    "output_covariance": Variable(
        (*_TIME, "lag", "probe"), "f8", "covariance of the output with that `lag` times before"
    )
}


# -- lazy networks ----------------------------------------------------------------------------


def lazy_flow(problem: Problem) -> Prediction:
    """Gradient flow with the tangent kernel of infinite width; of Langevin the shortest times."""
    network = problem.network
    kernels = nngp_and_ntk(
        _points(problem),
        depth=network.depth,
        activation=problem.own_activation or network.activation,
        weight_variance=network.physical_weight_variance,
        bias_variance=network.bias_variance,
    )
    found = gradient_flow(kernels, problem.y, _times(problem))
    exact = torch.zeros(len(found.time), dtype=torch.float64)
    prediction = _lazy(problem, found.output, found.covariance, found.loss, exact)
    if problem.spec.observe.lags:
        near = slice(len(problem.y) + len(_probes(problem)))
        some = Kernels(*(kernel[near, near] for kernel in kernels))
        both = gradient_flow(some, problem.y, _times(problem), two_time=True).two_time
        prediction["output_covariance"] = _with_before(problem, both)
    return prediction


def lazy_langevin(problem: Problem) -> Prediction:
    """Langevin dynamics with weight decay at infinite width, from the prior to the posterior."""
    network = problem.network
    solve = partial(
        volterra,
        torch.as_tensor(problem.data.x_train),
        problem.y,
        _times(problem),
        temperature=problem.temperature,
        depth=network.depth,
        activation=problem.own_activation or network.activation,
        weight_variance=network.physical_weight_variance,
        bias_variance=network.bias_variance,
    )
    found = solve(x_test=torch.as_tensor(problem.data.x_test))
    prediction = _lazy(problem, found.output, found.covariance, found.loss, found.error)
    if problem.spec.observe.lags:
        both = solve(x_test=_probes(problem), two_time=True).two_time
        prediction["output_covariance"] = _with_before(problem, both)
    return prediction


def settled(problem: Problem) -> Prediction:
    """The posterior of infinite width, where Langevin dynamics end, at all times.

    It says nothing of two times.
    """
    at_rest, count = nngp(problem), len(problem.times)
    kept = ("learnability", "output_mean", "predictive_variance", "mse_mean", "mse_sample")
    found = {name: np.broadcast_to(at_rest[name], (count, *at_rest[name].shape)) for name in kept}
    ridge = problem.train + problem.temperature * torch.eye(len(problem.train)).double()
    outputs = problem.y.reshape(len(ridge), -1)
    residual = problem.temperature * torch.linalg.solve(ridge, outputs)
    variance = problem.temperature * torch.linalg.solve(ridge, problem.train).trace()
    loss = float(residual.square().sum() + outputs.shape[1] * variance) / 2
    found |= {"loss": np.full(count, loss), "numerical_error": np.zeros(count)}
    return found | _unlearned(problem)


def _lazy(
    problem: Problem, output: Tensor, covariance: Tensor, loss: Tensor, error: Tensor
) -> Prediction:
    train = len(problem.y)
    variance = covariance.diagonal(dim1=1, dim2=2)[:, train:]
    each = [
        summary(problem, Posterior(mean, spread))
        for mean, spread in zip(output[:, train:], variance, strict=True)
    ]
    found = {name: np.stack([one[name] for one in each]) for name in each[0]}
    found |= {"loss": loss.numpy(), "numerical_error": error.numpy()}
    return found | _unlearned(problem)


def _with_before(problem: Problem, two_time: Tensor | None) -> np.ndarray:
    """C(t, t') at each probe with the times t' before, (time, lag, probe); NaN without such a time.

    `two_time` is (time, time, p, p), with the probes after the training points.
    """
    assert two_time is not None
    at_points = two_time.diagonal(dim1=2, dim2=3)[:, :, len(problem.y) :].numpy()
    lags = problem.spec.observe.lags
    found = np.full((len(at_points), len(lags), at_points.shape[2]), np.nan)
    for number, lag in enumerate(lags):
        for place in range(lag, len(at_points)):
            found[place, number] = at_points[place, place - lag]
    return found


def _unlearned(problem: Problem) -> Prediction:
    """Weights and kernels of networks that learn no features."""
    count = len(problem.times)
    found = {
        name: np.broadcast_to(value, (count, *value.shape))
        for name, value in prior_weights(problem).items()
    }
    observe = problem.spec.observe
    if observe.kernels:
        found["kernel"] = np.broadcast_to(
            kernels := _two_times(problem, 1.0), (count, *kernels.shape)
        )
        if observe.lags:
            found["kernel_lag"] = _lagged(problem)
    return found


def _lagged(problem: Problem) -> np.ndarray:
    """(time, lag, layer, probe, probe); NaN where there is no earlier time."""
    spec, times = problem.spec, problem.times
    probes, forgets = len(_probes(problem)), spec.sampler.dynamics == "langevin"
    shape = (len(times), len(spec.observe.lags), problem.network.depth, probes, probes)
    found = np.full(shape, np.nan)
    for place, time in enumerate(times):
        for number, lag in enumerate(spec.observe.lags):
            if lag <= place:
                apart = time - times[place - lag] if forgets else 0.0
                found[place, number] = _two_times(problem, float(np.exp(-apart)))
    return found


def _two_times(problem: Problem, correlation: float) -> np.ndarray:
    """σ² E[φ(t)φ(s)] of each layer where weights have this correlation, (layer, probe, probe)."""
    found = []
    for level in range(1, problem.network.depth + 1):
        network = cut(problem.network, level)
        kernels = TwoTimeKernels(
            _probes(problem),
            depth=level,
            activation=problem.own_activation or network.activation,
            weight_variance=network.weights,
            bias_variance=network.bias_variance,
        )
        found.append(kernels.at(correlation).nngp / correlation)
    return torch.stack(found).numpy()


# -- networks that learn features -----------------------------------------------------------------


def features(problem: Problem, width: int) -> Prediction:
    """The mean field of one hidden layer, by particles; outputs do not fluctuate in it.

    `<name>_error` is the standard error of what is judged: of the mean over the replicas of the
    particles, and with it, in squares, what extrapolation in the step changes it by.
    """
    found = solved(problem, width, _times(problem), particles=PARTICLES)
    values = _averaged(problem, Averages(*(each.mean(0) for each in found.replicas)))
    replicas = [_averaged(problem, Averages(*one)) for one in zip(*found.replicas, strict=True)]
    pairs = zip(found.replicas, found.changes, strict=True)
    rough = _averaged(problem, Averages(*((each - change).mean(0) for each, change in pairs)))
    for name in WITH_ERRORS & values.keys():
        variance = np.var([each[name] for each in replicas], axis=0, ddof=1) / len(replicas)
        values[f"{name}_error"] = np.sqrt(variance + np.square(values[name] - rough[name]))
    error = torch.sqrt(found.error.output**2 + found.step_error.output**2).amax(1)
    return values | {"numerical_error": error.numpy()}


def _averaged(problem: Problem, averages: Averages) -> Prediction:
    """What averages over particles say of the data, at each time."""
    spec, network, train = problem.spec, problem.network, len(problem.y)
    each = [
        summary(problem, Posterior(mean, torch.full_like(mean, torch.nan)))
        for mean in averages.output[:, train:]
    ]
    values = {
        name: np.stack([one[name] for one in each])
        for name in ("learnability", "output_mean", "mse_mean")
    }
    readout = network.physical_weight_variance[-1] * averages.readout_variance
    values |= {"loss": averages.loss.numpy(), "weight_norm": readout.numpy()}
    if has_overlaps(spec) and spec.observe.overlaps:
        values["hidden_variance"] = _along(problem, averages.weight_covariance).numpy()
    if spec.observe.kernels:
        here = slice(train, train + len(_probes(problem)))
        values["kernel"] = (network.chi * averages.kernel[:, None, here, here]).numpy()
        if spec.observe.lags:
            lagged = averages.kernel_lag[:, :, None, here, here]
            values["kernel_lag"] = (network.chi * lagged).numpy()
    return values


def solved(
    problem: Problem,
    width: int,
    times: Sequence[float],
    *,
    particles: int,
    replicas: int = REPLICAS,
) -> MeanField:
    """The mean field of a problem at times of the theory, by so many particles."""
    network, data = problem.network, problem.data
    first, readout = network.physical_weight_variance
    langevin = problem.spec.sampler.dynamics == "langevin"
    return mean_field(
        torch.as_tensor(data.x_train),
        problem.y,
        times,
        width=width,
        temperature=problem.temperature if langevin else 0.0,
        activation=problem.own_activation or network.activation,
        weight_variance=(first, readout),
        bias_variance=network.biases[0],
        x_test=torch.as_tensor(data.x_test),
        particles=particles,
        replicas=replicas,
        lags=problem.spec.observe.lags,
    )


def _along(problem: Problem, covariance: Tensor) -> Tensor:
    """Mean squares of weights along the teacher and across it, in prior variances, (time, 2)."""
    teacher = torch.as_tensor(problem.data.teacher)
    inputs = covariance[:, : len(teacher), : len(teacher)]
    along = torch.einsum("i,tij,j->t", teacher, inputs, teacher)
    trace = inputs.diagonal(dim1=1, dim2=2).sum(1)
    return torch.stack([along, (trace - along) / max(1, len(teacher) - 1)], 1)


# -- all of them ----------------------------------------------------------------------------------

Numbers = Callable[[Problem, Sequence[int]], Iterable[Prediction]]


def _of_all(theory: Callable[[Problem], Prediction]) -> Numbers:
    """The same at every width."""
    return lambda problem, widths: [theory(problem)] * len(widths)


def _of_each(problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    return (features(problem, width) for width in widths)


# By the names of their records in `storage.campaign.theories`.
NUMBERS: dict[str, Numbers] = {
    "gradient_flow": _of_all(lazy_flow),
    "volterra": _of_all(lazy_langevin),
    "mean_field": _of_each,
    "nngp": _of_all(settled),
}


def evaluate(theory: str, problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    """What a theory predicts at each width, one after another."""
    return NUMBERS[theory](problem, widths)


def variables(
    theory: str, of_summary: Mapping[str, Variable], measured: Mapping[str, Variable]
) -> dict[str, Variable]:
    """The variables of a theory's group, from those of other theories and those measured."""
    found = {name: _timed(one) for name, one in of_summary.items()} | VARIABLES
    for name in ("hidden_variance", "kernel", "kernel_lag"):
        if name in measured:
            dims = (d for d in measured[name].dims if d not in ("chain", "block"))
            one = measured[name]
            found[name] = Variable(tuple(dims), "f8", one.long_name, one.units)
    if "kernel_lag" in measured:
        found |= TWO_TIMES
    if theory in PARTICLE_THEORIES:
        for name in WITH_ERRORS & found.keys():
            text = f"standard error of {name}, a number of the theory"
            found[f"{name}_error"] = replace(found[name], long_name=text)
    return found


def _timed(variable: Variable) -> Variable:
    cell, dataset, *rest = variable.dims
    return Variable((cell, dataset, "time", *rest), variable.dtype, variable.long_name)


def _times(problem: Problem) -> list[float]:
    return [time / problem.temperature for time in problem.times]


def _points(problem: Problem) -> Tensor:
    data = problem.data
    return torch.cat([torch.as_tensor(data.x_train), torch.as_tensor(data.x_test)])


def _probes(problem: Problem) -> Tensor:
    """Where kernels are observed."""
    few = min(problem.spec.observe.points, PROBES)
    return torch.as_tensor(problem.data.x_test[:few])
