"""Theories of single-index problems in a campaign: numbers, shapes, and where they are refused."""

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.theories import averaged_theories
from pipelines.theories.predict import predict
from storage.arrays.coordinates import overlap_edges
from storage.errors import CampaignError
from storage.planning.plan import plan
from storage.reading.document import parse
from support.fake_ensemble import stored
from support.index import TEXT
from theory.single_index.gaussian_index import infinite_width
from theory.single_index.order_parameter import order_parameter
from theory.single_index.problems import hermite_target, problem

PATCHES = """
version: 1
name: filters
data: {source: patches, patches: 4, patch_size: 20, train: 60, test: 40, teacher: {1: 1.0}}
network: {architecture: cnn, patches: 4, activation: linear, width: 100, weight_variance: [1, 1],
          scaling: mean_field, chi: 100}
sampler: {scheme: ula, temperature: 1.0, step_size: 0.1, warmup: 2, draws: 100, segment: 50,
          step_check: false}
ensemble: {datasets: 2, chains: 8, block: 4}
theories: [gfl, order_parameter]
"""


def cells(*overrides: str, text: str = TEXT):
    return plan(parse(text, list(overrides))).cells


def test_cells_become_one_problem_in_physical_values():
    found = averaged_theories.evaluate("order_parameter", cells())
    # χ = 64 divides the readout's variance 8 and the temperature 6.4.
    given = problem(
        "erf",
        hermite_target({1: 1.0, 3: torch.tensor([-0.2, 0.1, -0.2, 0.1])}, (1, 3)),
        dimension=30.0,
        width=64.0,
        weight_variance=0.5,
        readout_variance=8 / 64,
        train=torch.tensor([60.0, 60.0, 240.0, 240.0]),
        temperature=0.1,
    )
    expected = order_parameter(given, "effective")
    torch.testing.assert_close(found["learnability"], expected.learnability)
    torch.testing.assert_close(found["closure_temperature"], expected.temperature)
    torch.testing.assert_close(found["hidden_variance"][:, 0], expected.variance)
    torch.testing.assert_close(found["predictive_variance"], expected.temperature - 0.1)
    torch.testing.assert_close(found["weight_norm"], expected.readout_variance / 8)
    # Of the modes He_1 and √6 c_3 he_3 the coefficients 1 - L are missed.
    missed = (1 - expected.learnability).square()
    missed = missed[:, 0] + 6 * torch.tensor([0.04, 0.01] * 2) * missed[:, 1]
    torch.testing.assert_close(found["mse_mean"], expected.error_factor * missed, rtol=1e-6, atol=0)


@pytest.mark.parametrize("theory", ["gfl", "order_parameter"])
def test_densities_have_the_variances_that_are_predicted(theory):
    found = averaged_theories.evaluate(theory, cells())
    density = found["overlap_density"]
    torch.testing.assert_close(density.sum((1, 2)), torch.ones(4).double())
    edges = torch.from_numpy(overlap_edges())
    middle = (edges[1:] + edges[:-1]) / 2
    second = density.sum(2) @ middle.square() - 0.2**2 / 12  # of a bin
    torch.testing.assert_close(second, found["hidden_variance"][:, 0], rtol=2e-3, atol=0)


def test_another_chi_is_that_of_another_campaign():
    doubled = averaged_theories.varied("gfl", cells(), chi=2.0)
    same = averaged_theories.evaluate("gfl", cells("network.chi=128"))
    for name in ("learnability", "hidden_variance", "weight_norm", "closure_temperature"):
        torch.testing.assert_close(doubled[name], same[name])


def test_another_temperature_is_that_of_the_closure():
    effective = averaged_theories.varied("order_parameter", cells())
    same = averaged_theories.varied(
        "order_parameter", cells(), temperature=effective["closure_temperature"]
    )
    torch.testing.assert_close(same["learnability"], effective["learnability"])
    hot = averaged_theories.varied(
        "order_parameter", cells(), temperature=2 * effective["closure_temperature"]
    )
    assert (hot["learnability"][:, 0] < effective["learnability"][:, 0]).all()


def test_filters_of_a_wide_network_are_regression_with_its_kernel():
    """At a standard readout and infinite width nothing is learned in the filters."""
    wide = ("network.width=1000000", "network.scaling=standard", "network.chi=1")
    found = averaged_theories.evaluate("gfl", cells(*wide, text=PATCHES))
    torch.testing.assert_close(
        found["hidden_variance"], torch.ones(1, 2).double(), rtol=1e-4, atol=0
    )
    given = problem(
        "linear",
        hermite_target({1: 1.0}, (1, 3)),
        dimension=20.0,
        width=1e6,
        weight_variance=1.0,
        readout_variance=1.0,
        train=60.0,
        temperature=1.0,
        patches=4.0,
    )
    expected = infinite_width(given, "effective").learnability
    torch.testing.assert_close(found["learnability"], expected, rtol=1e-4, atol=0)


def test_groups_have_cells_and_no_datasets(tmp_path):
    store, planned = stored(tmp_path, TEXT)
    predict(store)
    for theory in planned.spec.theories:
        found = xr.open_dataset(store.data, group=f"theory/{theory}", engine="zarr").load()
        assert found["learnability"].dims == ("cell", "component")
        assert found["hidden_variance"].dims == ("cell", "part")
        assert "dataset" not in found.dims
        assert np.isfinite(found["learnability"]).all()
        assert found["component"].values.tolist() == ["He1", "He3"]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["data.inputs=sphere"], "found data.inputs sphere"),
        (["data.basis=monomial"], "found data.basis monomial"),
        (["data.normalize={squared_norm: 1}"], "found data.normalize, wanted points as they are"),
        (["data.dimension=1"], "found data.dimension 1, wanted at least 2"),
        (["network.bias_variance=0.1"], "found bias_variance 0.1"),
        (["network.depth=2", "network.weight_variance=[1, 1, 1]"], "found depth 2"),
        (["network.activation=tanh"], "found activation tanh"),
        (["network.activation=relu", "theories=[gmfl]"], "found activation relu, wanted erf"),
        (
            [
                "data={source: digits, positive: [0], negative: [1], train: 10, test: 10}",
                "sweep={}",
            ],
            "found data.source digits",
        ),
    ],
)
def test_a_theory_is_refused_where_it_does_not_hold(overrides, wanted):
    with pytest.raises(CampaignError, match=wanted):
        parse(TEXT, overrides)
