"""What the packaged regression campaigns assert, at sizes that fit into a test.

`make campaigns` does so for another seed.
"""

import numpy as np
import pytest
import xarray as xr

from pipelines.commands.packaged import FOLDER, find, names
from pipelines.engine import engine, stages
from pipelines.report.figures.quartic import ratios
from storage.campaign.regression_spec import REGRESSION_THEORIES
from storage.reading.document import read
from storage.store.store import Store

pytestmark = pytest.mark.slow

SEEDS = [1, pytest.param(2, marks=pytest.mark.campaigns)]
CURVES = [name for name in names() if name.startswith("learning-curves-")]


def analyzed(root, name: str, *overrides: str) -> Store:
    """The store of a packaged campaign, with its theories and fits."""
    campaign = engine.prepare(read(find(name), overrides), str(root), ())
    with engine.drive(campaign, engine.Inline()) as driven:
        for wave in driven.left:
            list(driven.run(wave))
    before = [stage for stage in stages.STAGES if stage != "report"]
    stages.analyze(campaign.store, campaign.plugins, before)
    return campaign.store


def group(store: Store, name: str) -> xr.Dataset:
    return xr.open_dataset(store.data, group=name, engine="zarr").load()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_peak_of_double_descent_and_its_end(tmp_path, seed):
    store = analyzed(
        tmp_path,
        "double-descent",
        "regression.train=[50, 100, 200]",
        "regression.ridges=[0.01, 0.25]",
        "regression.repeats=24",
        "regression.pool=1500",
        f"regression.seed={seed}",
    )
    found = group(store, "learning_curve").isel(cell=0).sel(observable="pool_error")
    peaked, smooth = found["measured"].sel(ridge=0.01), found["measured"].sel(ridge=0.25)
    error = found["standard_error"].sel(ridge=0.01)
    higher = (peaked.sel(train=100) - peaked).drop_sel(train=100)
    assert (higher > 3 * np.hypot(error, error.sel(train=100))).all()
    assert (np.diff(smooth) < 0).all()
    joint = found["joint_p_value"]
    tests = joint.size
    assert (joint.sel(theory="effective_ridge") > 1e-3 / tests).all()
    relative = found["residual_error"] / found["predicted"]
    off = abs(found["residual"] / found["predicted"]).sel(theory="effective_ridge")
    assert (off < 0.1 + 5 * relative.sel(theory="effective_ridge")).all()
    assert (joint.sel(theory="equivalent_kernel") < 1e-3 / tests).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_exponents_of_power_laws_and_a_quartic_loss(tmp_path, seed):
    store = analyzed(
        tmp_path,
        "power-law",
        "regression.train=[16, 48, 144]",
        "regression.ridges=[1.0]",
        "regression.repeats=24",
        "regression.pool=1500",
        "regression.quartic={couplings: [0.5], chains: 8, warmup: 50, draws: 100}",
        "data.modes=2500",
        "theories=[effective_ridge, quartic]",
        f"regression.seed={seed}",
    )
    found = group(store, "exponents").isel(cell=0, ridge=0)
    law = found.sel(law="power")
    # Eigenvalues of a pool fluctuate together, which the jackknife over bins sees in part.
    tolerance = 5 * law["spectral_exponent_error"] + np.sqrt(2 / 1500)
    assert abs(law["spectral_exponent"] - 1) < tolerance
    assert abs(law["target_exponent"] - 1) < 5 * law["target_exponent_error"]
    slope = found["slope_predicted"].sel(theory="effective_ridge")
    assert abs(found["slope"] - slope) < 5 * found["slope_error"]
    curves = group(store, "learning_curve").isel(cell=0, ridge=0)
    for name in ("quartic_error 0.5", "quartic_residual 0.5"):
        one = curves.sel(observable=name)
        assert float(one["joint_p_value"].sel(theory="quartic")) > 1e-3 / 4
        relative = abs(one["residual"] / one["predicted"]).sel(theory="quartic")
        error = (one["residual_error"] / one["predicted"]).sel(theory="quartic")
        assert (relative < 0.05 + 5 * error).all()
    without = curves.sel(observable="quartic_residual 0.5", theory="effective_ridge")
    assert float(without["joint_p_value"]) < 1e-6
    # The more data, the less the quartic term does: T_u comes back to T.
    ridge = group(store, "theory/quartic")["quartic_ridge"].isel(cell=0, ridge=0, coupling=0)
    assert (np.diff(ridge) > 0).all()
    measured = group(store, "regression")
    assert float(measured["quartic_accepted"].min()) > 0.4
    ratio = ratios(measured, group(store, "theory/quartic"), group(store, "theory/effective_ridge"))
    assert (abs(ratio["ratio"] - ratio["predicted"]) < 0.05 + 5 * ratio["ratio_error"]).all()
    # The ridge dominates the flow, whose pull scales with 1 + α but for the ends of the spectrum.
    flow = group(store, "flow").isel(cell=0, ridge=0)
    assert abs(flow["interval_dimension"].isel(interval=0) - 2) < 0.2
    exponent = flow["flow_exponent"].mean("train")
    assert abs(exponent - found["slope"]) < 0.15 + 5 * found["slope_error"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ridge_of_each_point_on_legendre_polynomials_alone(tmp_path, seed):
    store = analyzed(
        tmp_path,
        "position-dependent-ridge",
        "regression.train=[20, 40]",
        "regression.ridges=[1.0]",
        "regression.repeats=120",
        "regression.pool=600",
        "data.modes=150",
        f"regression.seed={seed}",
    )
    uniform, position = (group(store, f"theory/{name}") for name in ("rg_gpr", "rg_gpr_position"))
    legendre, gaussian = (
        int(np.flatnonzero(uniform["data_inputs"].values == name)[0])
        for name in ("legendre", "gaussian")
    )
    far = uniform["distance_square"].isel(cell=legendre)
    near = position["distance_square"].isel(cell=legendre)
    error = uniform["distance_square_error"].isel(cell=legendre)
    assert float(far.mean()) > 5 * float(np.sqrt(np.square(error).sum())) / error.size
    # Five times closer, in the mean over sizes, but for what is not resolved.
    left = position["distance_square_error"].isel(cell=legendre)
    assert float(near.mean()) < float(far.mean()) / 25 + 2 * float(left.mean())
    gap = (uniform["distance_square"] - position["distance_square"]).isel(cell=gaussian)
    scatter = uniform["distance_square_error"].isel(cell=gaussian)
    assert (abs(gap) < 5 * scatter).all()
    variation = uniform["variation"].isel(train=0, ridge=0)
    assert float(variation[legendre]) > 3 * float(variation[gaussian])


@pytest.mark.parametrize("seed", SEEDS)
def test_theories_of_the_learning_curve_of_digits(tmp_path, seed):
    store = analyzed(
        tmp_path,
        "learning-curves-digits",
        "regression.train=[10, 20, 40, 80]",
        "regression.ridges=[1.0e-8, 0.1]",
        "regression.repeats=12",
        "regression.pool=900",
        f"regression.seed={seed}",
    )
    found = group(store, "learning_curve").isel(cell=0).sel(observable="pool_error")
    assert found["theory"].size == len(REGRESSION_THEORIES) - 1  # all but the quartic loss
    relative = abs(found["residual"] / found["predicted"])
    error = found["residual_error"] / found["predicted"]
    for theory in ("effective_ridge", "rg_ridge"):
        assert (relative.sel(theory=theory) < 0.1 + 5 * error.sel(theory=theory)).all()
    for theory in ("rg_gpr", "rg_gpr_position"):
        assert (relative.sel(theory=theory) < 0.02).all()
    failed = found.sel(theory="equivalent_kernel")
    assert (failed["joint_p_value"] < 1e-3 / found["joint_p_value"].size).all()
    assert (failed["deviation_low"].sel(ridge=1e-8) > 10).all()
    gap = found["criterion"].sel(theory="equivalent_kernel") - found["criterion"]
    assert (gap.sel(theory="effective_ridge") > 10).all()


@pytest.mark.parametrize("name", CURVES)
def test_a_learning_curve_names_its_constants_and_asks_for_its_files(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    for word in ("kernel", "normalization", "classes", "pool", "Asserted"):
        assert word in text.partition("version:")[0]
    spec = read(find(name), [] if name.endswith("digits") else ["data.folder=elsewhere"])
    assert spec.regression is not None
    assert spec.regression.ridges == (1e-8, 1e-3, 0.1)
    assert {"effective_ridge", "equivalent_kernel", "rg_ridge", "rg_gpr"} <= set(spec.theories)
