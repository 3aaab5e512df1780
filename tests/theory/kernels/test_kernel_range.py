"""Kernels and expectations from no variance to the largest float, against many digits.

A correlation is rounded when a covariance is formed, by a few parts in 1/eps. So an expectation is
right if it is that of a correlation so near.
"""

import json
import math

import mpmath
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from pipelines.engine import engine
from storage.reading.document import read
from theory.activations.expectations import derivative_moment, moment
from theory.activations.kernel_map import KernelMap
from theory.activations.records import RECORDS
from theory.kernels.convolution import convolutional_nngp, patch_nngp
from theory.kernels.fully_connected import nngp, nngp_and_ntk
from theory.single_index.hermite_overlap import overlaps

NAMES = ["linear", "erf", "relu", "sin", "quadratic", "tanh", "gelu"]
DTYPES = [torch.float32, torch.float64]
NEAR = 16  # in eps of the correlation: a product of a covariance with two roots, and their roots
DIGITS = 40
VARIANCES = {
    torch.float32: [0.0, 1e-37, 1e-12, 0.3, 50.0, 2e3, 1e9, 3e38],
    torch.float64: [0.0, 1e-307, 1e-20, 0.3, 50.0, 2e3, 1e18, 1e308],
}
ROUGH = {"erf", "relu", "sin", "linear"}  # whose expectations no variance takes out of range


def exact(name: str, slope: bool, k11, rho, k22):
    """From the textbook formulas, with as many digits as they take."""
    mp = mpmath.mp
    if slope and name == "linear":
        return mp.mpf(1)
    if name == "relu":
        angle = mp.acos(rho) if k11 * k22 else mp.pi
        if slope:
            return (mp.pi - angle) / (2 * mp.pi)
        return mp.sqrt(k11 * k22) * (mp.sin(angle) + (mp.pi - angle) * rho) / (2 * mp.pi)
    k12 = rho * mp.sqrt(k11 * k22)
    if name == "linear":
        return k12
    if name == "erf":
        product = (1 + 2 * k11) * (1 + 2 * k22)
        if slope:
            return 4 / mp.pi / mp.sqrt(product - 4 * k12**2)
        return 2 / mp.pi * mp.asin(2 * k12 / mp.sqrt(product))
    if slope:
        return (mp.exp(k12 - (k11 + k22) / 2) + mp.exp(-k12 - (k11 + k22) / 2)) / 2
    return (mp.exp(k12 - (k11 + k22) / 2) - mp.exp(-k12 - (k11 + k22) / 2)) / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(ROUGH))
@pytest.mark.slow
def test_closed_forms_from_no_variance_to_the_largest_float(name, dtype):
    eps = torch.finfo(dtype).eps
    correlations = [-1.0, -0.3, 0.0, 0.9, 1 - 8 * eps, 1.0]
    places = [(a, c, r) for a in VARIANCES[dtype] for c in VARIANCES[dtype] for r in correlations]
    places = [(a, c, r) for a, c, r in places if a <= c and (a or not r)]
    k11, k22, rho = torch.tensor(places, dtype=dtype).T
    k12 = rho * k11.sqrt() * k22.sqrt()
    digits = (1 if name == "sin" else 2) * math.ceil(-math.log10(torch.finfo(dtype).tiny))
    record = RECORDS[name]
    for slope, formula in enumerate((record.value, record.slope)):
        found = formula(k11, k12, k22)
        assert bool(found.isfinite().all())
        with mpmath.workdps(digits + DIGITS):

            def law(a, rho, c, slope=bool(slope)):
                return exact(name, slope, mpmath.mpf(a), max(-1, min(1, rho)), mpmath.mpf(c))

            own = {k: mpmath.sqrt(law(k, 1, k)) for k in {*k11.tolist(), *k22.tolist()}}
            for value, a, b, c in zip(*(t.tolist() for t in (found, k11, k12, k22)), strict=True):
                size = mpmath.sqrt(mpmath.mpf(a) * c)
                if name == "relu" and slope and not size:
                    continue  # φ' jumps there
                rho = b / size if size else mpmath.mpf(0)
                middle, allowed = law(a, rho, c), NEAR * eps * own[a] * own[c]
                if size and 1 - abs(rho) < 1e-3:  # elsewhere it is too small to tell
                    allowed += sum(abs(law(a, rho + h * NEAR * eps, c) - middle) for h in (-1, 1))
                allowed += torch.finfo(dtype).tiny
                assert abs(value - middle) <= allowed, (name, slope, a, b, c, value, middle)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*NAMES, torch.sigmoid, torch.cosh, torch.relu])
def test_every_expectation_is_a_number_or_refused_by_a_line(activation, dtype):
    """Cauchy and Schwarz bound it by the diagonals, which are right or refused as well."""
    refused: list[tuple[float, str]] = []
    for largest in VARIANCES[dtype]:
        variance = torch.tensor([0.0, min(1.0, largest), largest], dtype=dtype)
        for value in (moment(activation), derivative_moment(activation)):
            try:
                features, own = value.features(variance), value.diagonal(variance)
                for rho in (-1.0, 0.0, 1 - torch.finfo(dtype).eps, 1.0):
                    root = variance.sqrt()
                    pairs = value.pairs(features, torch.outer(rho * root, root), features)
                    assert bool(pairs.isfinite().all())
                    bound = torch.outer(own.sqrt(), own.sqrt())
                    # Series of kinks end at their highest order, by 1e-3 of it for jumps.
                    assert bool((pairs.abs() <= bound * (1 + 2e-3) + 1e-30).all())
            except ValueError as error:
                refused.append((largest, str(error)))
        try:
            mean, bend = KernelMap(activation).mean, KernelMap(activation).mean_slope
            known = variance.double()
            assert bool((mean(known).isfinite() & bend(known).isfinite()).all())
        except ValueError as error:
            refused.append((largest, str(error)))
    assert not refused or activation not in ROUGH
    for largest, message in refused:
        assert largest > 30
        assert "\n" not in message
        assert f"{largest:.3g}" in message or "uncertain" in message


def test_means_of_gelu_at_any_variance():
    variance = torch.tensor([0.0, 1e-300, 0.2, 40.0, 1e308], dtype=torch.float64)
    mean, slope = KernelMap("gelu").mean(variance), KernelMap("gelu").mean_slope(variance)
    with mpmath.workdps(DIGITS):
        for k, found, bend in zip(variance.tolist(), mean.tolist(), slope.tolist(), strict=True):

            def law(k):
                return k / mpmath.sqrt(2 * mpmath.pi * (1 + k))

            assert found == pytest.approx(float(law(mpmath.mpf(k))), rel=1e-14)
            if k < 1e3:
                assert bend == pytest.approx(float(mpmath.diff(law, k)), rel=1e-12)
    # E[gelu(u)] by quadrature, which knows nothing of Stein.
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(120))
    known = (weights / weights.sum()) @ torch.nn.functional.gelu(math.sqrt(0.2) * nodes)
    assert mean[2].item() == pytest.approx(known.item(), rel=1e-12)


def test_bends_where_a_point_is_zero_are_limits():
    """½ E[φ''(0)φ(v)] of no variance is that of nearly none; of a square it is k22."""
    weight = torch.ones(2, 2, dtype=torch.float64)
    for activation in ("quadratic", "gelu", "tanh", "sin", torch.sigmoid):
        pulled = [
            KernelMap(activation).pullback(torch.diag(torch.tensor([k, 2.0]).double()), weight)
            for k in (0.0, 1e-5)
        ]
        torch.testing.assert_close(*pulled, rtol=0, atol=1e-4)
    square = KernelMap("quadratic").pullback(torch.diag(torch.tensor([0.0, 2.0]).double()), weight)
    assert square[0, 0].item() == pytest.approx(2 * 2.0)


def test_overlaps_of_no_and_of_any_weights():
    q = torch.tensor([0.0, 1e-160, 1e150], dtype=torch.float64)
    none = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(overlaps("relu", q, none, [0, 1, 2])[:, 0], torch.zeros(3).double())
    for activation in ("relu", "erf", "linear"):
        assert bool(overlaps(activation, q, none, [0, 1, 2, 3, 4]).isfinite().all())
    limit = overlaps("erf", q, none, [1])[0, -1].item()  # E[u sign(u)]
    assert limit == pytest.approx(math.sqrt(2 / math.pi), rel=1e-14)


SCALES = [1e-160, 1e-25, 1e-3, 1.0, 3e4, 1e18, 1e60, 1e150]


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "linear", "quadratic"])
def test_kernels_of_inputs_of_any_size(activation):
    """Single precision is double, rounded, or refused; with a point of zero and near points."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    base = torch.cat([base, base[:3] * (1 + 1e-4), -base[3:5], torch.zeros(1, 6)])
    settings = {"depth": 2, "activation": activation, "bias_variance": 0.0}
    settings["weight_variance"] = [1.2, 1.1, 0.9]
    refused: list[tuple[float, torch.dtype, str]] = []
    for scale in SCALES:
        wide = base * scale
        narrow = wide.float()
        if not bool(narrow.isfinite().all()):
            narrow = None
        found = []
        for x in (wide, None if narrow is None else narrow.double(), narrow):
            if x is None:
                continue
            try:
                both = nngp_and_ntk(x, **settings)
            except ValueError as error:
                refused.append((scale, x.dtype, str(error)))
                continue
            for kernel in both:
                assert kernel.dtype == x.dtype
                assert bool(kernel.isfinite().all())
                assert torch.equal(kernel, kernel.T)
                assert bool((kernel[-1] == 0).all())
                root = kernel.diagonal().double().sqrt()
                apart = kernel.double().abs() - torch.outer(root, root)
                assert float(apart.max()) <= 1e-6 * float(kernel.diagonal().max()) + 1e-300
            found.append(both)
        if len(found) == 3:
            for double, single in zip(found[1], found[2], strict=True):
                rooted = double.diagonal().sqrt()
                error = (single.double() - double).abs()
                assert bool((error <= 4e-6 * torch.outer(rooted, rooted) + 1e-37).all())
    assert all("variance" in line or "kernel reaches" in line for *_, line in refused)
    beyond = {"tanh": {3e4, 1e18, 1e60, 1e150}, "quadratic": {1e60, 1e150}}
    found = {scale for scale, dtype, _ in refused if dtype == torch.float64}
    assert found == beyond.get(activation, set())


def test_what_a_precision_cannot_hold_is_refused_with_its_size_and_name():
    settings = {"depth": 1, "bias_variance": 0.0, "weight_variance": [1.0, 1.0]}
    x = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"kernel reaches 1e\+50, and float32 ends at 3\.4e\+38"):
        nngp(x * 1e25, activation="linear", **settings)
    with pytest.raises(ValueError, match=r"variance 1e\+200, and float64 ends at 1\.8e\+308"):
        nngp(x.double() * 1e100, activation="quadratic", **settings)
    with pytest.raises(ValueError, match="variance inf, and float64 ends"):
        nngp(x.double() * 1e200, activation="erf", **settings)
    patches = {"patches": 1, "depth": 1, "weight_variance": [1.0, 1.0]}
    with pytest.raises(ValueError, match=r"kernel reaches 1e\+50, and float32 ends"):
        patch_nngp(x * 1e25, activation="linear", **patches)


@pytest.mark.parametrize("head", ["flatten", "average"])
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_convolutions_of_images_of_any_size(activation, head):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, generator=generator)
    x[1, :12] = 0  # windows that see nothing
    settings = {"image": (1, 4, 4), "pool_after": (), "head": head, "activation": activation}
    settings["weight_variance"] = [1.0, 1.0, 1.0]
    for scale in (1e-25, 1.0, 1e6, 1e18):
        single, double = (
            convolutional_nngp(z, **settings) for z in (x * scale, x.double() * scale)
        )
        size = float(double.diagonal().max())
        if size < 1e38:
            assert float((single.double() - double).abs().max()) <= 4e-6 * size + 1e-37


def test_patches_of_zero_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 12, generator=generator)
    x[1, :4], x[3] = 0, 0
    settings = {"patches": 3, "depth": 2, "activation": "relu", "weight_variance": [1.0, 2.0, 2.0]}
    single, double = patch_nngp(x, **settings), patch_nngp(x.double(), **settings)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)
    assert bool((single[3] == 0).all())


def errors(folder, x: np.ndarray, y: np.ndarray, activation: str, precision: str) -> list[float]:
    """Mean square errors of a regression as a campaign has it, on 30 points and 20 others."""
    np.savez(folder / "data.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    spec = {
        "version": 1,
        "name": "range",
        "data": {"source": "npz", "file": str(folder / "data.npz"), "train": 30, "test": 20},
        "regression": {
            "kernel": {"depth": 1, "activation": activation, "weight_variance": [1, 2]},
            "train": [30],
            "ridges": [0.01],
            "repeats": 1,
            "pool": 30,
            "sampling": "without",
            "evaluate": ["pool", "heldout"],
            "precision": precision,
        },
    }
    (folder / "spec.yaml").write_text(json.dumps(spec))
    campaign = engine.prepare(read(folder / "spec.yaml"), str(folder), [])
    with engine.drive(campaign, engine.Inline()) as driven:
        for wave in driven.left:
            list(driven.run(wave))
    values = xr.open_dataset(campaign.store.data, group="regression", engine="zarr")
    return [float(values[name].squeeze()) for name in ("pool_error", "test_error")]


def predicted(kernel: Tensor, y: np.ndarray) -> list[float]:
    """The same by the formula."""
    known = kernel.numpy()
    mean = known[:, :30] @ np.linalg.solve(known[:30, :30] + 0.01 * np.eye(30), y[:30])
    square = (mean - y) ** 2
    return [square[:30].mean(), square[30:].mean()]


@pytest.mark.slow
def test_a_regression_on_a_column_of_timestamps(tmp_path):
    """erf saturates: the kernel is 2 for every pair, but for 1e-9."""
    x = np.random.default_rng(0).normal(size=(50, 5))
    x[:, 0] = 1.7e9 + 360 * np.arange(50)
    y = np.tanh(x[:, 1])
    expected = predicted(torch.full((50, 50), 2.0, dtype=torch.float64), y)
    for precision in ("float64", "float32"):
        (tmp_path / precision).mkdir()
        found = errors(tmp_path / precision, x, y, "erf", precision)
        # The kernel errs by (4/π) √(6 eps), which a mean over labels of order one hands on.
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_regression_on_a_point_of_zero_in_single_precision(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 5))
    x[3] = 0
    y = np.tanh(x[:, 1])
    kernel = nngp(
        torch.from_numpy(x), depth=1, activation="relu", weight_variance=[1, 2], bias_variance=0.0
    )
    assert errors(tmp_path, x, y, "relu", "float32") == pytest.approx(
        predicted(kernel, y), abs=1e-4
    )
