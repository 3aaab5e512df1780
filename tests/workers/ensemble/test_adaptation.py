"""The step size that a block finds in its warm-up."""

import math

import numpy as np
import pytest
import torch

from storage.campaign.sampler_spec import LARGEST_ANGLE
from support.blocks import block_of, campaign, data_of, shard_of, step
from support.learning import LEARNS, normals, problem_of
from workers.ensemble import adaptation
from workers.ensemble.adaptation import (
    DRAINED,
    FIRST_ITERATIONS,
    LONGEST_STEP,
    MEASURED,
    SOFT,
    STABLE_STEP,
    STEEP,
    TOLERATED,
    Traces,
    curvature,
    share,
    stages,
    traces,
    unbiased,
)
from workers.ensemble.schemes import ACCEPTED_SHARE, KICKED, TURNED, moving
from workers.samplers import neurons

torch.set_num_threads(1)  # as in a worker


# -- curvature ------------------------------------------------------------------------------


def hessians(gradient, position):
    """∂∇U/∂z of each chain, (chain, parameter, parameter), from differences in float64."""
    size, width = position.shape[1], 1e-5
    rows = []
    for axis in torch.eye(size, dtype=torch.float64):
        ahead, behind = gradient(position + width * axis)[1], gradient(position - width * axis)[1]
        rows.append((ahead - behind) / (2 * width))
    return torch.stack(rows, dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["baoab", "gibbs", "collapsed"])
def test_curvature_is_the_largest_eigenvalue_of_what_the_steps_move(scheme, monkeypatch):
    moves = 2 if scheme == "gibbs" else "null"
    spec = campaign(
        LEARNS,
        f"sampler.scheme={scheme}",
        f"sampler.moves={moves}",
        "data.dimension=4",
        "network.width=5",
        "sampler.precision=float64",
    )
    problem = problem_of(spec)
    prior, learned = (
        moving(problem, position)
        for position in (
            normals(problem.network.size, 1),
            torch.as_tensor(block_of(spec).state["position"]),
        )
    )
    for gradient, moved in (prior, learned):
        assert moved.shape[1] == (25 if scheme == "baoab" else 20)
        values = torch.linalg.eigvalsh(hessians(gradient, moved))
        exact = values.abs().amax(1)
        # A difference of length h averages the Hessian over h, which is off by order h.
        few = curvature(gradient, moved, normals(moved.shape[1], 2), FIRST_ITERATIONS).values
        torch.testing.assert_close(few, exact, rtol=0.2, atol=0)
        with monkeypatch.context() as short:
            short.setattr(adaptation, "PROBE", 1e-4)
            many = curvature(gradient, moved, normals(moved.shape[1], 2), 300).values
        torch.testing.assert_close(many, exact, rtol=2e-3, atol=0)
    assert (values[:, -1] == exact).all()  # of the learned state, which is no saddle


def test_curvature_of_a_quadratic_is_exact():
    stiffness = torch.tensor([1.0, 3.0, 40.0], dtype=torch.float64)
    found = curvature(
        lambda z: ((stiffness * z.square()).sum(1) / 2, stiffness * z),
        normals(3, 1),
        normals(3, 2),
        30,
    )
    torch.testing.assert_close(found.values, torch.full((6,), 40.0, dtype=torch.float64))
    last = torch.tensor([[0, 0, 1.0]], dtype=torch.float64).expand(6, -1)
    torch.testing.assert_close(found.direction.abs(), last, rtol=0, atol=1e-12)


def test_traces_of_a_quadratic_are_those_of_what_the_data_add():
    stiffness = torch.linspace(1, 9, 40, dtype=torch.float64)
    probes = [normals(40, stream, chains=500) for stream in range(4)]
    found = traces(
        lambda z: ((stiffness * z.square()).sum(1) / 2, stiffness * z), probes[0], probes
    )
    added = stiffness - 1
    for estimate, weights in ((found.first, added), (found.second, added.square())):
        # v·Av of directions on a sphere: variance 2 (tr A²/D - (tr A/D)²)/(D + 2), times D².
        deviation = math.sqrt(2 * (40 * weights.square().sum() - weights.sum() ** 2) / 42 / 2000)
        assert abs(estimate - weights.sum()) < 5 * deviation


@pytest.mark.parametrize("friction", [0.15, 1.0])
def test_the_tolerated_step_has_the_bias_that_is_tolerated(friction):
    step_size = unbiased(30.0, 0.7, friction)
    bias = MEASURED * friction**-DRAINED * 0.7 * (step_size * math.sqrt(30)) ** STEEP * 30**-SOFT
    assert bias == pytest.approx(TOLERATED)


def test_the_share_is_that_of_the_outputs_with_a_stiff_direction():
    for stiff in (5, 20):
        assert share(Traces(1e4 * stiff, 1e8 * stiff), 20, definite=True) == pytest.approx(
            stiff / 20
        )
    assert share(Traces(0.02, 2e-5), 20, definite=True) == pytest.approx(1e-6, rel=1e-3)
    for nothing in (Traces(0.0, 0.0), Traces(-9.0, 10.0), Traces(math.nan, math.nan)):
        assert unbiased(1.0, share(nothing, 50, definite=True), 0.5) == math.inf


# -- the step -------------------------------------------------------------------------------


def test_the_step_is_that_of_the_learned_state():
    spec = campaign(LEARNS)
    found = block_of(spec)
    problem = problem_of(campaign(LEARNS, "sampler.precision=float64"))
    size = problem.network.size
    prior = curvature(problem.gradient, normals(size, 1), normals(size, 2), 60).values
    learned = torch.as_tensor(found.state["position"]).double()
    stiff = curvature(problem.gradient, learned, normals(size, 2), 60).values
    assert stiff.min() > 2 * prior.median()
    step_size = float(found.fixed["step_size"])
    probes = [normals(size, stream) for stream in range(3, 43)]
    held = share(traces(problem.gradient, learned, probes), len(problem.y), definite=True)
    wanted = min(STABLE_STEP / math.sqrt(stiff.max()), unbiased(float(stiff.max()), held, 1.0))
    assert step_size == pytest.approx(wanted, rel=0.2)
    assert step_size < 2 / math.sqrt(stiff.max())  # which is where it would be unstable


MANY_INPUTS = """
version: 1
name: many-inputs
data: {source: linear, dimension: 200, train: 10, test: 4, label_noise: 0.1}
network: {activation: linear, width: 10, weight_variance: [1, 1]}
sampler: {scheme: baoab, step_size: auto, temperature: 0.5, warmup: 200, draws: 40, thin: 5,
  segment: 40}
ensemble: {datasets: 1, chains: 400, block: 400}
observe: {points: 4, histograms: false, kernels: false, overlaps: false}
"""


def exact_loss(spec):
    """E L of a linear network of one hidden layer, by a sum over |a|², given which it is a GP."""
    data, temperature, width = data_of(spec), spec.sampler.temperature, spec.network.width
    kernel = data.x_train @ data.x_train.T / data.x_train.shape[1]
    values, vectors = np.linalg.eigh(kernel)
    labels, logs = vectors.T @ data.y_train.ravel(), np.linspace(-16, 6, 4000)
    signal = np.exp(logs)[:, None] * values
    spread = signal + temperature
    log_weight = width / 2 * (logs - np.exp(logs))
    log_weight -= (np.log(spread) + labels**2 / spread).sum(1) / 2
    weight = np.exp(log_weight - log_weight.max())
    losses = ((temperature * labels / spread) ** 2 + signal * temperature / spread).sum(1) / 2
    return weight @ losses / weight.sum()


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_where_all_stiff_modes_are_alike_the_step_is_shorter_than_stability_asks(monkeypatch):
    """With more inputs than points they all have about λ, and the stable step biases them all."""
    spec = campaign(MANY_INPUTS)
    exact, biases = exact_loss(spec), {}
    for tolerated in (TOLERATED, math.inf):
        monkeypatch.setattr(adaptation, "TOLERATED", tolerated)
        loss = block_of(spec, backend="fused").values["loss"].mean(1)
        error = loss.std(ddof=1) / math.sqrt(len(loss)) / exact
        biases[tolerated] = loss.mean() / exact - 1, error
    bias, error = biases[TOLERATED]
    assert abs(bias) < 0.01 + 3 * error
    bias, error = biases[math.inf]
    assert bias > 0.01 + error


def test_where_the_data_say_nothing_the_step_is_bounded():
    """The prior is white, λ = 1: the step is not the longest stable one, 1.6 of its deviations."""
    found = block_of(campaign(LEARNS, "sampler.temperature=1e6", "sampler.warmup=32"))
    assert float(found.fixed["step_size"]) == LONGEST_STEP


@pytest.mark.slow
@pytest.mark.parametrize("chi", [1, 4])
def test_mala_accepts_as_often_as_it_should(chi):
    # The step was found before the draws, from the acceptance over the last windows of a block.
    spec = campaign(
        LEARNS,
        "sampler={scheme: mala, step_size: auto, temperature: 2, warmup: 1500, draws: 100, "
        "thin: 5, segment: 100}",
        f"network.chi={chi}",
        "ensemble={datasets: 1, chains: 40, block: 40}",
    )
    _, state = step(shard_of(spec))
    _, last = step(shard_of(spec, 0), state)
    accepted = (last["accepted"] - state["accepted"]).mean() / 500
    assert accepted == pytest.approx(ACCEPTED_SHARE, abs=0.06)


NEURONS = "sampler={scheme: neurons, step_size: auto, warmup: 200, draws: 50, segment: 50, "


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("stiff", "wanted"), [(1.5, KICKED), (math.inf, TURNED)])
def test_neurons_accept_as_many_turns_as_they_should(stiff, wanted, monkeypatch):
    monkeypatch.setattr(neurons, "STIFF", stiff)
    spec = campaign(LEARNS, NEURONS + "temperature: 0.02}", "network.chi=1")
    fixed, state = step(shard_of(spec), backend="fused")
    _, last = step(shard_of(spec, 0), state, backend="fused")
    turns = 40 - 5  # of a sweep: one of eight neurons takes a slice
    accepted = (last["accepted"] - state["accepted"]).mean() / (50 * turns)
    assert accepted == pytest.approx(wanted, abs=0.05)
    assert 0.05 < float(fixed["step_size"]) < LARGEST_ANGLE


@pytest.mark.usefixtures("library")
def test_where_the_data_say_nothing_neurons_make_quarter_turns():
    spec = campaign(LEARNS, NEURONS + "temperature: 1e6}", "network.chi=1")
    assert float(step(shard_of(spec), backend="fused")[0]["step_size"]) == LARGEST_ANGLE


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["baoab", "mala", "collapsed"])
def test_the_step_is_frozen_and_halved_in_a_step_check(scheme):
    friction = "null" if scheme == "mala" else 1
    spec = campaign(LEARNS, f"sampler.scheme={scheme}", f"sampler.friction={friction}")
    fixed, state = step(shard_of(spec))
    for segment in range(2):
        _, state = step(shard_of(spec, segment), state)
        assert float(state["step_size"]) == float(fixed["step_size"])
    other = campaign(
        LEARNS,
        f"sampler.scheme={scheme}",
        f"sampler.friction={friction}",
        "sampler.segment=5",
        "sampler.draws=40",
        "ensemble.chains=12",
    )
    assert step(shard_of(other))[0]["step_size"] == fixed["step_size"]
    if scheme == "mala":
        return
    # A step check adapts to chains of its own; its step is half of what they found.
    check, _ = step(shard_of(spec, kind="check"))
    assert float(check["step_size"]) == pytest.approx(float(fixed["step_size"]) / 2, rel=0.15)


FALLS = {
    "linear": ["network.activation=linear"],
    "linear, small readout": ["network.activation=linear", "network.weight_variance=[1, 0.2]"],
    "quadratic": ["network.activation=quadratic"],
    "three linear layers": [
        "network.activation=linear",
        "network.depth=2",
        "network.weight_variance=[1, 1, 1]",
    ],
}


@pytest.mark.parametrize("name", FALLS)
def test_chains_survive_their_fall_from_the_prior(name):
    # Where U grows as a fourth power, a potential energy of thousands turned into momentum is
    # enough to leave every step size behind.
    spec = campaign(LEARNS, *FALLS[name], "sampler.friction=0.2")
    found = block_of(spec)
    assert not found.values["status"].any()
    loss = found.values["loss"]
    assert loss.max() < 3 * np.median(loss)


@pytest.mark.parametrize("warmup", [20, 21, 97, 400])
def test_stages_lie_within_the_warm_up(warmup):
    found = stages(warmup)
    assert found == sorted(found)
    assert found[0] >= 1
    assert found[-1] == math.ceil(3 * warmup / 4)
