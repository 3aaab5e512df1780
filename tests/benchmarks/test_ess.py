"""What the benchmark of effective samples makes of draws."""

import math

import numpy as np
import pytest
import torch
from ess_analysis import Result, biases, figures, rate, ratio, small
from ess_problem import CHAINS, NEURON, OUTPUTS, OVERLAP, POINTS, TRAIN_ERROR, Known
from ess_table import known, percent
from ess_torch import observed, problem, stiffness

QUANTITIES = NEURON.stop


def measured(outputs, speeds, gradients=1000):
    return Result("", speeds, gradients, outputs, outputs / 2, {})


def test_rate_and_ratio_take_medians_of_speeds_and_of_their_ratios():
    ours, theirs = measured(4000.0, [10.0, 12.0, 90.0]), measured(1000.0, [5.0, 2.0, 10.0])
    assert rate(ours, ours.outputs) == pytest.approx(48)  # 4 each gradient, 12 gradients a second
    assert ratio(ours, theirs, "outputs") == "24"  # 4 times as many each, 2, 6 and 9 times as fast


def test_ratio_over_few_effective_samples_is_a_bound():
    ours, theirs = measured(4000.0, [1.0]), measured(150.0, [1.0])
    assert ratio(ours, theirs, "outputs") == "27"
    assert ratio(ours, theirs, "weights") == ">= 27"


def test_biases_are_those_of_independent_draws():
    rng = np.random.default_rng(0)
    draws = 2 + rng.standard_normal((CHAINS, 500, QUANTITIES))
    found = biases(draws, {"train error": Known(2.0, 0.0), "overlap": Known(1.6, 0.06)})
    error = 1 / math.sqrt(CHAINS * 500)
    # ESS and with it the error is known to about a tenth from so many draws.
    assert found["train error"].error == pytest.approx(error / 2, rel=0.3)
    assert found["overlap"].error == pytest.approx(math.hypot(error, 0.06) / 1.6, rel=0.3)
    assert abs(found["train error"].value) < 5 * error / 2
    assert found["overlap"].value == pytest.approx(0.25, abs=5 * error / 1.6)
    assert small({"": found["train error"]})
    assert not small(found)


def test_a_bias_of_chains_that_hardly_move_is_left_open():
    rng = np.random.default_rng(1)
    draws = np.repeat(rng.standard_normal((CHAINS, 1, QUANTITIES)), 200, axis=1)
    draws += 0.01 * rng.standard_normal(draws.shape)  # about as many effective draws as chains
    found = biases(draws, {"train error": Known(1.0, 0.0), "overlap": Known(1.0, 0.0)})
    assert all(math.isinf(bias.error) for bias in found.values())
    assert small(found)
    assert percent(found["overlap"], exact=False) == "?"


@pytest.mark.parametrize(
    ("bias", "accepted"),
    [
        (Known(0.009, 0.001), True),
        (Known(-0.02, 0.011), True),
        (Known(-0.02, 0.009), False),
        (Known(math.nan, math.nan), False),
    ],
    ids=["below 1 %", "below two errors", "above both", "diverged"],
)
def test_a_step_is_taken_if_its_bias_is_small(bias, accepted):
    assert small({"train error": bias}) == accepted


def test_numbers_as_they_are_printed():
    assert [figures(value) for value in (0.123, 9.96, 12.6, 1234.0)] == ["0.12", "10", "13", "1200"]
    assert known(Known(0.14567, 0.00021)) == "0.1457(2)"
    assert known(Known(0.0113812, 0.0000064)) == "0.01138(1)"
    assert percent(Known(0.0242, 0.0031), exact=False) == "+2.4(3) % †"
    assert percent(Known(0.0242, 0.0031), exact=True) == "+2.4(3) %"
    assert percent(Known(-0.0042, 0.0031), exact=False) == "-0.4(3) %"


def test_stiffness_of_a_quadratic():
    curvatures = torch.linspace(1, 10, 30)
    curvatures[7] = 50.0

    def gradient(z):
        return (curvatures * z.square()).sum(1) / 2, curvatures * z

    position = torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    # Differences of float32 gradients of about 100 over a step of 1/10.
    assert stiffness(gradient, position) == pytest.approx(50, rel=1e-4)
    mobility = torch.ones(30)
    mobility[29] = 9.0
    assert stiffness(gradient, position, mobility) == pytest.approx(90, rel=1e-4)


def test_what_is_seen_of_a_draw_agrees_with_its_energy():
    posed = problem(0.1)
    z = torch.randn(4, posed.network.size, generator=torch.Generator().manual_seed(1))
    seen = observed(posed, z)
    assert seen.shape == (4, QUANTITIES)
    energy = z.square().sum(1) / 2 + POINTS * seen[:, TRAIN_ERROR] / (2 * posed.temperature)
    torch.testing.assert_close(energy, posed.gradient(z)[0])
    f = posed.network.outputs(z * posed.widths, posed.x[POINTS:])
    torch.testing.assert_close(seen[:, OUTPUTS], f)
    first = z[:, 0] * posed.widths[0]
    torch.testing.assert_close(seen[:, NEURON.start], first)
    assert (seen[:, OVERLAP] > 0).all()
