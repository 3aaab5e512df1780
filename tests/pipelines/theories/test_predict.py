"""Predictions: what they must equal, in the shape of the measurement, and what is refused."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.theories import ensemble_theories
from pipelines.theories.ensemble_theories import Problem
from pipelines.theories.predict import predict
from pipelines.theories.theory_groups import group_name
from storage.campaign.plugins import Plugins, allow
from storage.errors import CampaignError
from storage.reading.document import parse
from support.curve import REGRESSION
from support.fake_ensemble import TEXT, WIDTHS, stored
from theory.spectrum.learning_curves import learning_curve
from workers.data.datasets import content_digests, dataset


def problem(*overrides: str) -> Problem:
    spec = parse(TEXT, list(overrides))
    return Problem(spec, dataset(spec, 0, Plugins(), {}), Plugins())


def group(store, name: str) -> xr.Dataset:
    return xr.open_dataset(store.data, group=name, engine="zarr").load()


# -- the formulas ---------------------------------------------------------------------------


def arcsine_kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """E[erf(u) erf(v)] of hidden weights N(0, 1/d): (2/π) arcsin(2k/√((1 + 2k₁)(1 + 2k₂)))."""
    d = first.shape[1]
    norms = [1 + 2 * np.square(x).sum(1) / d for x in (first, second)]
    return 2 / math.pi * np.arcsin(2 * first @ second.T / d / np.sqrt(np.outer(*norms)))


def test_nngp_is_regression_with_the_physical_kernel_and_ridge():
    # chi = 4 divides the readout's variance 2 and the temperature 0.5.
    given = problem()
    data = given.data
    readout, ridge = 2 / 4, 0.5 / 4
    train = readout * arcsine_kernel(data.x_train, data.x_train)
    cross = readout * arcsine_kernel(data.x_test, data.x_train)
    inverse = np.linalg.inv(train + ridge * np.eye(len(train)))
    mean = cross @ inverse @ data.y_train
    diagonal = readout * np.diag(arcsine_kernel(data.x_test, data.x_test))
    variance = diagonal - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    learned = np.linalg.lstsq(data.components, mean, rcond=None)[0]
    found = ensemble_theories.nngp(given)
    error = np.mean((mean - data.y_test) ** 2)
    expected = {
        "output_mean": mean,
        "predictive_variance": variance,
        "learnability": learned,
        "mse_mean": error,
        "mse_sample": error + variance.mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, err_msg=name)


@pytest.mark.slow
def test_layer_kernels_are_those_that_an_ensemble_stores():
    # σ²·φφ'/width with σ² of the layer above as the spec gives it, without biases: averaged over
    # wide random networks, whose entries scatter by √(2/width) of σ² at most.
    given = problem(
        "network.depth=2",
        "network.weight_variance=[1, 1.5, 2]",
        "network.bias_variance=[0.3, 0.1]",
        "theories=[nngp]",
        "observe.kernels=true",
    )
    width, rng = 6000, np.random.default_rng(5)
    x = given.data.x_test[:12]
    fields = rng.normal(size=(width, 6)) @ x.T / math.sqrt(6)
    fields += rng.normal(0, math.sqrt(0.3), (width, 1))
    first = torch.erf(torch.as_tensor(fields)).numpy()
    fields = rng.normal(0, math.sqrt(1.5 / width), (width, width)) @ first
    fields += rng.normal(0, math.sqrt(0.1), (width, 1))
    second = torch.erf(torch.as_tensor(fields)).numpy()
    found = ensemble_theories.nngp(given)["kernel"]
    np.testing.assert_allclose(found[0], 1.5 * first.T @ first / width, atol=5 * 1.5 / 70)
    np.testing.assert_allclose(found[1], 2.0 * second.T @ second / width, atol=5 * 2.0 / 70)


def test_density_is_that_of_a_standard_normal_with_open_ends():
    found = ensemble_theories.nngp(problem())["density"]
    assert found.sum() == pytest.approx(1, abs=1e-14)
    inside = (1 + math.erf(0.06 / math.sqrt(2))) / 2 - 0.5  # the first bin above zero
    assert found[0, 0, 100] == pytest.approx(inside, rel=1e-12)
    assert found[0, 0, 0] == pytest.approx(math.erfc(5.94 / math.sqrt(2)) / 2, rel=1e-12)


def test_kernel_scaling_goes_to_the_nngp_as_one_over_the_width():
    given = problem()
    nngp = ensemble_theories.nngp(given)
    widths = [10**5, 2 * 10**5]
    near, far = ensemble_theories.kernel_scaling(given, widths)
    # What a term in 1/N leaves is of second order in Q - 1, for functions of Q of order one.
    second = 5 * float(near["scale"] - 1) ** 2
    for name in ("learnability", "output_mean", "predictive_variance", "mse_mean"):
        left = near[name] - 2 * far[name] + nngp[name]
        assert np.abs(left).max() < second < 0.1 * np.abs(near[name] - nngp[name]).max()
    assert near["scale"] - 1 == pytest.approx(2 * (far["scale"] - 1), rel=1e-3)
    assert abs(near["residual"]) < 1e-12


def test_kernel_scaling_refuses_a_scale_that_does_not_solve_its_equation(monkeypatch):
    solved = ensemble_theories.kernel_scale

    def unsolved(*arguments, **options):
        found = solved(*arguments, **options)
        return found._replace(residual=found.residual + 1e-3)

    monkeypatch.setattr(ensemble_theories, "kernel_scale", unsolved)
    with pytest.raises(ValueError, match=r"width 64 .*1\.0e-03, wanted 1e-08"):
        list(ensemble_theories.kernel_scaling(problem(), [64]))


def test_a_prior_ensemble_has_learned_nothing():
    given = problem("sampler.scheme=prior", "sampler.step_size=null")
    scaled = next(iter(ensemble_theories.kernel_scaling(given, [16])))
    x = given.data.x_test
    for found in (ensemble_theories.nngp(given), scaled):
        assert not found["output_mean"].any()
        assert not found["learnability"].any()
        assert found["mse_mean"] == pytest.approx(np.mean(given.data.y_test**2), rel=1e-14)
        variance = 0.5 * np.diag(arcsine_kernel(x, x))
        np.testing.assert_allclose(found["predictive_variance"], variance, rtol=1e-12)
    assert scaled["scale"] == 1


# -- the groups -----------------------------------------------------------------------------


def test_a_residual_is_a_subtraction(tmp_path):
    store, _ = stored(tmp_path, TEXT + WIDTHS)
    predict(store)
    measured = group(store, "ensemble")
    for name in ("nngp", "kernel_scaling"):
        theory = group(store, f"theory/{name}")
        assert theory.attrs["axes"] == measured.attrs["axes"]
        assert theory["network_width"].identical(measured["network_width"])
        for variable, sizes in {
            "learnability": ("cell", "dataset", "component"),
            "output_mean": ("cell", "dataset", "test"),
            "density": ("cell", "dataset", "layer", "direction", "bin"),
        }.items():
            assert theory[variable].dims == sizes
            assert np.isfinite(theory[variable]).all()
        residual = measured["learnability"].mean(("chain", "draw")) - theory["learnability"]
        assert residual.dims == ("cell", "dataset", "component")
        assert residual.sizes == theory["learnability"].sizes


def test_cells_are_predicted_each_at_its_own_width_and_dataset(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    predict(store)
    found = group(store, "theory/kernel_scaling")
    for cell in planned.cells:
        assert cell.spec.network is not None
        for index in range(2):
            data = dataset(cell.spec, index, Plugins(), {})
            alone = Problem(cell.spec, data, Plugins())
            (wanted,) = ensemble_theories.kernel_scaling(alone, [cell.spec.network.width])
            here = found.isel(cell=cell.index, dataset=index)
            assert float(here["scale"]) == pytest.approx(float(wanted["scale"]), rel=1e-12)
            np.testing.assert_allclose(here["output_mean"], wanted["output_mean"], rtol=1e-9)
    nngp = group(store, "theory/nngp")["output_mean"]
    assert (nngp == nngp.isel(cell=0)).all()  # which knows no width
    assert not (nngp.isel(dataset=0) == nngp.isel(dataset=1)).any()


def test_layers_that_a_cell_does_not_have_are_not_predicted(tmp_path):
    text = TEXT.replace("theories: [nngp, kernel_scaling]", "theories: [nngp]")
    sweep = (
        "\nsweep: {depth: {network.depth: [1, 2], network.weight_variance: [[1, 2], [1, 1, 2]]}}\n"
    )
    store, _ = stored(tmp_path, text + sweep)
    predict(store)
    variance = group(store, "theory/nngp")["pre_activation_variance"].isel(dataset=0, direction=0)
    np.testing.assert_array_equal(variance, [[1, np.nan], [1, 1]])


@pytest.mark.slow
def test_an_extension_is_predicted_with_what_was_there_before(tmp_path):
    store, _ = stored(tmp_path, TEXT + WIDTHS)
    predict(store)
    before = group(store, "theory/nngp")
    more = TEXT.replace("theories: [nngp, kernel_scaling]", "theories: [nngp]")
    stored(tmp_path, more + WIDTHS.replace("256]", "256, 512]"))
    predict(store)
    after = group(store, "theory/nngp")
    assert after["network_width"].values.tolist() == [32, 64, 128, 256, 512]
    assert after["output_mean"].isel(cell=slice(0, 4)).identical(before["output_mean"])
    tree = xr.open_datatree(store.data, engine="zarr")
    assert set(tree["theory"].children) == {"nngp"}  # the newest spec asks for no more


def test_what_was_asked_for_last_is_predicted_though_it_is_not_new(tmp_path):
    for theory in ("nngp", "kernel_scaling", "nngp"):
        store, _ = stored(tmp_path, TEXT.replace("[nngp, kernel_scaling]", f"[{theory}]"))
        predict(store)
        assert set(xr.open_datatree(store.data, engine="zarr")["theory"].children) == {theory}
    specs = len(store.specs())
    assert specs == 3
    stored(tmp_path, TEXT.replace("[nngp, kernel_scaling]", "[nngp]"))
    assert len(store.specs()) == specs  # the last one already


def test_the_effective_ridge_obeys_its_conservation_law(tmp_path):
    store, planned = stored(tmp_path, REGRESSION)
    spectrum = np.geomspace(1, 1e-3, 60)
    coefficient = np.random.default_rng(2).normal(size=60)
    shard = next(iter(planned.shards()))
    store.write(shard, {"eigenvalue": spectrum, "coefficient": coefficient})
    predict(store)
    found = group(store, "theory/effective_ridge")
    assert found["pool_error"].dims == ("cell", "train", "ridge")
    # Σ L_k = n - n T/T_eff; learnabilities are stored in float32.
    n, ridge, effective = found["train"], found["ridge"], found["effective_ridge"]
    conserved = n - n * ridge / effective - found["learnability"].sum("mode", dtype=float)
    assert float(np.abs(conserved).max()) < 60 * 6e-8
    # The error of a training label, with its noise 0.2, is smaller by (T/T_eff)².
    expected = (found["pool_error"] + 0.2) * (ridge / effective) ** 2
    xr.testing.assert_allclose(found["train_error"], expected, rtol=1e-10)
    one = learning_curve(torch.tensor(spectrum), torch.tensor(coefficient) ** 2, 20.0, 1.0, 0.2)
    assert found["pool_error"].sel(train=20, ridge=1.0).item() == pytest.approx(float(one.error))
    assert found["beyond_pool"].values.tolist() == [0, 1, 1]  # 20 and 40 of 60 points


def test_a_spectrum_that_is_not_stored_yet_predicts_nothing(tmp_path):
    store, _ = stored(tmp_path, REGRESSION)
    predict(store)
    assert group(store, "theory/effective_ridge")["pool_error"].isnull().all()


# -- theories of the user's own -------------------------------------------------------------

PLUGIN = '''
"""A theory that has learned half of everything."""
import numpy as np


def half(spec, dataset):
    assert spec.network.width in (32, 64, 128, 256)
    return {"output_mean": dataset.y_test / 2, "mse_mean": np.mean(dataset.y_test**2) / 4}


def misshapen(spec, dataset):
    return {"output_mean": dataset.y_test[:3]}


def unknown(spec, dataset):
    return {"temperature": 3.0}


def infinite(spec, dataset):
    return {"mse_mean": float("nan")}


def nothing(spec, dataset):
    return None


def broken(spec, dataset):
    raise KeyError("alpha")
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    yield name
    sys.modules.pop(name, None)


def asked(folder: Path, theory: str, sweep: str = ""):
    """A store whose spec names one theory of the user's, and the permission to run it."""
    text = TEXT.replace("[nngp, kernel_scaling]", f"['{theory}']") + sweep
    store, planned = stored(folder / "store", text)
    return store, allow(planned.spec, [theory.partition(":")[0]], folder)


def test_a_theory_of_the_users_own_is_stored_beside_the_others(tmp_path, module):
    store, plugins = asked(tmp_path, f"{module}:half", WIDTHS)
    predict(store, plugins)
    found = group(store, f"theory/{module}_half")
    measured = group(store, "ensemble")
    assert found["output_mean"].dims == ("cell", "dataset", "test")
    assert np.isfinite(found["output_mean"]).all()
    assert found["learnability"].isnull().all()  # it does not say
    assert found["network_width"].identical(measured["network_width"])


@pytest.mark.parametrize(
    ("theory", "said"),
    [
        ("misshapen", r"output_mean has shape \(3,\); wanted \(40,\)"),
        ("unknown", "returned temperature; choose from learnability"),
        ("infinite", "mse_mean .* finite numbers"),
        ("nothing", "must return a dict"),
        ("broken", "dataset 0 of the cell .*KeyError.*take it out of theories"),
    ],
)
def test_a_theory_that_returns_something_else_is_refused_in_a_line(tmp_path, module, theory, said):
    store, plugins = asked(tmp_path, f"{module}:{theory}")
    with pytest.raises(CampaignError, match=said) as refused:
        predict(store, plugins)
    assert "\n" not in str(refused.value)


def test_a_theory_that_was_not_allowed_is_not_run(tmp_path, module):
    store, _ = asked(tmp_path, f"{module}:half")
    with pytest.raises(CampaignError, match="--plugins"):
        predict(store)


def test_a_module_that_has_changed_since_is_refused(tmp_path, module):
    store, plugins = asked(tmp_path, f"{module}:half")
    changed = replace(plugins, digests=((module, "0" * 64),))
    with pytest.raises(CampaignError, match="differs from the one"):
        predict(store, changed)


def test_a_theory_may_change_while_the_data_may_not(tmp_path, module):
    x, y = np.random.default_rng(4).normal(size=(20, 3)), np.ones(20)
    file = tmp_path / "mine.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    data = f"data: {{source: npz, file: {file}, train: 8, test: 10}}\n"
    text = TEXT.replace(TEXT[TEXT.index("data:") : TEXT.index("network:")], data)
    text = text.replace("[nngp, kernel_scaling]", f"['{module}:half']")
    spec = parse(text)
    plugins = allow(spec, [module], tmp_path)
    store, _ = stored(tmp_path / "store", text, sources=content_digests(spec, plugins))
    source = tmp_path / f"{module}.py"
    source.write_text(source.read_text().replace("/ 2", "/ 3"))
    predict(store, allow(spec, [module], tmp_path))
    np.savez(file, x_train=x, y_train=-y, x_test=x, y_test=y)
    with pytest.raises(CampaignError, match="npz has changed since the campaign began"):
        predict(store, allow(spec, [module], tmp_path))


def test_theories_that_would_share_a_group_are_refused():
    with pytest.raises(CampaignError, match="would share the group theory/a_b_c"):
        parse(TEXT, ["theories=['a.b:c', 'a_b:c']"])
    assert group_name("my.mod:predict") == "theory/my_mod_predict"
