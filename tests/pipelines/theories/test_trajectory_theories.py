"""What theories predict of networks in time: at two times, and with errors of their own."""

import numpy as np
import pytest
import torch

from pipelines.commands.packaged import find
from pipelines.theories import trajectory_theories
from pipelines.theories.ensemble_theories import Problem
from storage.campaign.plugins import Plugins
from storage.planning.plan import plan
from storage.reading.document import read
from theory.dynamics import volterra
from theory.kernels import nngp_and_ntk
from workers.data.datasets import dataset

SMALL = (
    "data.train=4", "data.test=6", "observe.points=3", "observe.lags=[1, 3]", "sampler.draws=6",
    "sampler.segment=6",
)  # fmt: skip
TRAIN, PROBES, LAGS = 4, 3, (1, 3)


def problem_of(name: str) -> Problem:
    planned = plan(read(find(name), SMALL))
    spec = planned.cells[0].spec
    return Problem(spec, dataset(spec, 0, Plugins(), {}), Plugins(), planned.times)


def points(given: Problem) -> torch.Tensor:
    """Those of training and then the probes."""
    data = given.data
    return torch.cat([torch.as_tensor(data.x_train), torch.as_tensor(data.x_test[:PROBES])])


def network_of(given: Problem) -> dict:
    network = given.network
    return {
        "depth": network.depth, "activation": network.activation,
        "weight_variance": network.physical_weight_variance,
        "bias_variance": network.bias_variance,
    }  # fmt: skip


def lagged(given: Problem, between) -> np.ndarray:
    """(time, lag, probe) of what is known between two times, NaN before the first."""
    count = len(given.times)
    found = np.full((count, len(LAGS), PROBES), np.nan)
    for number, lag in enumerate(LAGS):
        for place in range(lag, count):
            found[place, number] = between(place, place - lag)[TRAIN:]
    return found


def test_gradient_flow_between_two_times_is_a_matrix_exponential():
    given = problem_of("mean-field-dynamics")
    kernels = nngp_and_ntk(points(given), **network_of(given))
    generator = torch.zeros_like(kernels.ntk)
    generator[:, :TRAIN] = -kernels.ntk[:, :TRAIN]
    starts = [torch.matrix_exp(generator * t / given.temperature) for t in given.times]

    def between(one: int, other: int) -> np.ndarray:
        return (starts[one] @ kernels.nngp @ starts[other].T).diagonal().numpy()

    found = trajectory_theories.lazy_flow(given)["output_covariance"]
    np.testing.assert_allclose(found, lagged(given, between), rtol=1e-8, atol=1e-12)


def test_langevin_dynamics_between_two_times_are_those_of_the_equation():
    given = problem_of("ntk-to-nngp")
    both = volterra(
        points(given)[:TRAIN], given.y, [t / given.temperature for t in given.times],
        temperature=given.temperature, x_test=points(given)[TRAIN:], two_time=True,
        **network_of(given),
    ).two_time  # fmt: skip
    assert both is not None

    def between(one: int, other: int) -> np.ndarray:
        return both[one, other].diagonal().numpy()

    found = trajectory_theories.lazy_langevin(given)["output_covariance"]
    np.testing.assert_array_equal(found, lagged(given, between))


def test_fewer_particles_are_off_by_the_errors_that_they_report(monkeypatch):
    given = problem_of("mean-field-dynamics")
    found = []
    for particles in (128, 2048):
        monkeypatch.setattr(trajectory_theories, "PARTICLES", particles)
        found.append(trajectory_theories.features(given, given.network.width))
    few, many = found
    for name in sorted(trajectory_theories.WITH_ERRORS):
        error = np.hypot(few[f"{name}_error"], many[f"{name}_error"])
        # 4 replicas: t_3 at 1e-4 is 11.
        assert (np.abs(few[name] - many[name]) < 11 * error).all(), name
        assert (few[f"{name}_error"] > 0).all()
        assert few[f"{name}_error"].max() < 0.1 * np.abs(few[name]).max()


def test_kernels_of_particles_between_two_times_are_covariances_of_features(monkeypatch):
    monkeypatch.setattr(trajectory_theories, "PARTICLES", 1024)
    given = problem_of("mean-field-dynamics")
    found = trajectory_theories.features(given, given.network.width)
    assert found["kernel_lag"].shape == (6, len(LAGS), 1, PROBES, PROBES)
    for number, lag in enumerate(LAGS):
        here, both = found["kernel"][:, 0], found["kernel_lag"][:, number, 0]
        assert np.isnan(both[:lag]).all()
        for place in range(lag, 6):
            # Those of the earlier time come first; the whole matrix has no negative eigenvalue,
            # but for what extrapolation in the step leaves of it.
            rows = [here[place - lag], both[place]], [both[place].T, here[place]]
            eigenvalues = np.linalg.eigvalsh(np.block([*map(list, rows)]))
            assert eigenvalues[0] > -1e-3 * eigenvalues[-1]


@pytest.mark.parametrize("theory", ["mean_field", "volterra"])
def test_errors_are_stored_of_theories_that_have_them(theory):
    variables = trajectory_theories.variables(theory, {}, {})
    assert ("loss_error" in variables) == (theory == "mean_field")
