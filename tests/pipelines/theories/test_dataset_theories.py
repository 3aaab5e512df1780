"""Theories of feature learning on one dataset: shapes, limits, and what is refused."""

import numpy as np
import pytest
import torch

from pipelines.theories import ensemble_theories
from pipelines.theories.dataset_theories import (
    adaptive_kernel,
    equations_of_state,
    scaled_directions,
    vga,
)
from pipelines.theories.ensemble_theories import Problem
from pipelines.theories.kernel_scalings import kernel_scaling
from storage.arrays.schema import BINS
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.reading.document import parse
from support.blocks import block_of, data_of

torch.set_num_threads(1)

TEXT = """
version: 1
name: theories
data: {source: single_index, dimension: 6, train: 40, test: 60, teacher: {1: 1.0, 3: -0.1}}
network: {activation: erf, width: 40, weight_variance: [0.5, 4], scaling: mean_field, chi: 40}
sampler: {scheme: ula, temperature: 1.0, step_size: 0.01, warmup: 1, draws: 2, segment: 2,
          step_check: false}
ensemble: {datasets: 2, chains: 2, block: 2}
observe: {points: 12, kernels: true, histograms: true}
"""
TWO_LAYERS = (
    "network.weight_variance=[0.5, 1.5, 4]",
    "network.depth=2",
    "network.bias_variance=[0.1, 0.2]",
)
WIDE = 10**9

THEORIES = {
    "adaptive_kernel": (adaptive_kernel, ()),
    "vga": (vga, ()),
    "equations_of_state": (equations_of_state, TWO_LAYERS),
}
SCALINGS = {
    "one layer": ("network.chi=1",),
    "a mean": ("network.activation=relu", "network.bias_variance=0.1"),
    "two layers": TWO_LAYERS,
    "linear layers": (
        "network.activation=linear",
        "network.depth=3",
        "network.weight_variance=[0.5, 1, 1, 4]",
    ),
}


def problem(*overrides: str, index: int = 0) -> Problem:
    spec = parse(TEXT, list(overrides))
    return Problem(spec, data_of(spec, index), Plugins())


@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
@pytest.mark.parametrize("name", THEORIES)
def test_infinite_width_is_the_nngp(name, activation):
    theory, overrides = THEORIES[name]
    given = problem(*overrides, f"network.activation={activation}")
    (found,) = theory(given, [WIDE], 0)
    expected = ensemble_theories.nngp(given)
    for variable in expected.keys() & found.keys():
        np.testing.assert_allclose(
            found[variable],
            np.broadcast_to(expected[variable], found[variable].shape),
            rtol=1e-4,
            atol=1e-6,
            err_msg=variable,
        )
    seen = {"output_mean", "predictive_variance", "mse_mean", "mse_sample", "learnability"}
    seen |= {"kernel", "density", "pre_activation_variance", "hidden_variance", "weight_norm"}
    assert seen <= expected.keys() & found.keys()


@pytest.mark.parametrize("name", THEORIES)
def test_predictions_have_the_shape_of_measurements(name):
    theory, overrides = THEORIES[name]
    given = problem(*overrides)
    layers = given.network.depth
    for found in theory(given, [40, 80], 1):
        assert {key: value.shape for key, value in found.items()} == {
            "learnability": (2,),
            "output_mean": (60,),
            "predictive_variance": (60,),
            "mse_mean": (),
            "mse_sample": (),
            "weight_norm": (),
            "hidden_variance": (2,),
            "kernel": (layers, 12, 12),
            "density": (layers, 3, BINS),
            "pre_activation_variance": (layers, 3),
            "residual": (),
            ("effective_draws" if theory is adaptive_kernel else "free_energy"): (),
        }
        np.testing.assert_allclose(found["density"].sum(-1), 1, rtol=1e-12)
        assert (found["density"] >= 0).all()
        assert found["hidden_variance"][0] > 1.2  # along the teacher; the prior has 1


@pytest.mark.parametrize("name", THEORIES)
def test_a_smaller_chi_at_the_same_width_learns_less_in_its_features(name):
    theory, overrides = THEORIES[name]
    (rich,) = theory(problem(*overrides), [40], 0)
    (lazy,) = theory(problem(*overrides, "network.chi=0.001"), [40], 0)
    assert abs(lazy["hidden_variance"][0] - 1) < 0.02 < rich["hidden_variance"][0] - 1


def test_what_is_not_observed_is_not_predicted():
    off = "observe={points: 12, kernels: false, histograms: false, overlaps: false}"
    for theory, overrides in THEORIES.values():
        (found,) = theory(problem(*overrides, off), [40], 0)
        assert not found.keys() & {"kernel", "density", "hidden_variance"}


@pytest.mark.parametrize("name", THEORIES)
def test_an_ensemble_of_the_prior_has_learned_nothing(name):
    theory, overrides = THEORIES[name]
    text = TEXT.replace("scheme: ula", "scheme: prior")
    text = text.replace("step_size: 0.01, ", "").replace(",\n          step_check: false", "")
    spec = parse(text, list(overrides))
    given = Problem(spec, data_of(spec), Plugins())
    (found,) = theory(given, [40], 0)
    expected = ensemble_theories.nngp(given)
    for variable in found.keys() & expected.keys():
        np.testing.assert_allclose(found[variable], expected[variable], rtol=1e-12)


def test_linear_networks_beside_the_exact_posterior():
    """Ten neurons: the readout's norm and the kernel too; mean field would be 5% off."""
    given = problem("network.activation=linear", "network.chi=1")
    (exact,) = ensemble_theories.scale_mixture(given, [10])
    (found,) = adaptive_kernel(given, [10], 0)
    for variable in ("output_mean", "predictive_variance", "weight_norm", "kernel"):
        difference = np.linalg.norm(found[variable] - exact[variable])
        assert difference < 0.03 * np.linalg.norm(exact[variable]), variable


@pytest.mark.parametrize("index", [0, 1])
def test_directions_are_those_of_the_ensemble(index):
    """v of z = v·h has the norm 1/deviation that the ensemble stores for its own directions."""
    given = problem(*TWO_LAYERS, index=index)
    stored = block_of(given.spec, index=index).fixed["prior_deviation"]
    (found,) = equations_of_state(given, [WIDE], index)
    np.testing.assert_allclose(found["pre_activation_variance"], np.ones((2, 3)), rtol=1e-5)
    assert stored.shape == (2, 3)
    for vectors, deviations in zip(scaled_directions(given, index), stored, strict=True):
        np.testing.assert_allclose(vectors.norm(dim=1), 1 / deviations, rtol=1e-9)


@pytest.mark.parametrize("name", SCALINGS)
def test_kernel_scaling_goes_to_the_nngp(name):
    given = problem(*SCALINGS[name])
    near, far = kernel_scaling(given, [10**6, WIDE])
    expected = ensemble_theories.nngp(given)
    for variable in ("output_mean", "predictive_variance", "learnability", "mse_sample"):
        np.testing.assert_allclose(far[variable], expected[variable], rtol=1e-4, atol=1e-6)
    assert abs(near["residual"]) < 1e-8
    assert 100 < abs(near["scale"] - 1) / abs(far["scale"] - 1) < 10_000  # 1/N: a thousand


def several_outputs(folder, *overrides: str) -> Problem:
    """A file with two outputs."""
    rng, file = np.random.default_rng(0), folder / "two.npz"
    x = rng.normal(size=(60, 6))
    y = x[:, :2] * [1.5, 0.5] + 0.1 * rng.normal(size=(60, 2))
    np.savez(file, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    data = f"data={{source: npz, file: {file}, outputs: 2, train: 40, test: 20}}"
    return problem(data, "observe.overlaps=false", *overrides)


def test_kernel_scaling_of_several_outputs_goes_to_the_nngp(tmp_path):
    given = several_outputs(tmp_path)
    narrow, wide = kernel_scaling(given, [40, WIDE])
    expected = ensemble_theories.nngp(given)
    assert narrow["output_mean"].shape == expected["output_mean"].shape == (20, 2)
    assert narrow["predictive_variance"].shape == (20,)
    assert narrow["scale"] > 1.2
    for variable in ("output_mean", "predictive_variance", "learnability", "mse_sample"):
        np.testing.assert_allclose(wide[variable], expected[variable], rtol=1e-4, atol=1e-6)


def test_kernel_scaling_of_several_outputs_with_a_mean_is_refused(tmp_path):
    with pytest.raises(CampaignError, match="found 2 outputs with activation relu at depth 1"):
        several_outputs(tmp_path, "network.activation=relu", "theories=[kernel_scaling]")


def test_one_output_is_needed(tmp_path):
    with pytest.raises(CampaignError, match="vga does not hold: found 2 outputs, wanted 1"):
        several_outputs(tmp_path, "theories=[vga]")


def test_kernel_scaling_of_one_odd_layer_is_the_plain_one():
    given = problem()
    for plain, found in zip(
        ensemble_theories.kernel_scaling(given, [40]), kernel_scaling(given, [40]), strict=True
    ):
        for variable, value in plain.items():
            np.testing.assert_array_equal(found[variable], value)


@pytest.mark.parametrize(
    ("theory", "overrides", "message"),
    [
        ("adaptive", TWO_LAYERS, "adaptive does not hold: found depth 2, wanted 1"),
        ("vga", TWO_LAYERS, "vga does not hold: found depth 2, wanted 1"),
        ("equations_of_state", (), "equations_of_state does not hold: found depth 1, wanted 2"),
        (
            "vga",
            ("network.architecture=cnn", "network.patches=2"),
            "found architecture cnn, wanted fcn; leave it out",
        ),
    ],
)
def test_networks_of_other_theories_are_refused(theory, overrides, message):
    with pytest.raises(CampaignError, match=message):
        problem(*overrides, f"theories=[{theory}]")
