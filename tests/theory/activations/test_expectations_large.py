"""Expectations of activations without a closed form where pre-activations vary widely."""

import itertools
import math
import re

import pytest
import torch
from scipy import integrate
from torch import Tensor

from theory.activations.expectations import Moment, derivative_moment, moment
from theory.activations.records import RECORDS
from theory.kernels.fully_connected import nngp, nngp_and_ntk, ntk

CLOSE = [1.0, 1 - 1e-12, 1 - 1e-8, 1 - 1e-6, 1 - 1e-5, 1 - 1e-4, 1 - 1e-3, 0.99]
CORRELATIONS = [*CLOSE, 0.9, 0.5, 0.1, 1e-3]
CORRELATIONS += [0.0, *(-rho for rho in CORRELATIONS)]
SETS = {
    "about 10": [10.0, 6.0],
    "about 100": [100.0, 60.0],
    "about 1e4": [1e4, 3e3],
    "about 1e5": [1e5, 7e4],
    "of all sizes": [0.0, 1e-6, 0.3, 40.0, 4e3],
    "of many points": torch.linspace(300.0, 1000.0, 80).tolist(),
}
BEYOND = (math.pi**2 / 12, 0.5)  # variance of the densities tanh'/2 and erf'/2


def variances(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def matrix(value: Moment, variance: Tensor, rho: float) -> Tensor:
    features = value.features(variance)
    return value.pairs(features, rho * torch.outer(variance, variance).sqrt(), features)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_series_of_erf_is_its_closed_form_at_any_variance(name):
    variance = variances(SETS[name])
    rows, columns = variance[:, None], variance[None]
    erf = RECORDS["erf"]
    for found, closed in (
        (moment(torch.erf), erf.value),
        (derivative_moment(torch.erf), erf.slope),
    ):
        scale = closed(variance, variance, variance)
        torch.testing.assert_close(found.diagonal(variance), scale, rtol=1e-10, atol=0)
        unit = torch.outer(scale, scale).sqrt().clamp_min(1e-300)
        features = found.features(variance)
        for rho in CORRELATIONS:
            covariance = rho * (rows * columns).sqrt()
            error = found.pairs(features, covariance, features) - closed(rows, covariance, columns)
            assert (error.abs() / unit).max() < 1e-9, rho


@pytest.mark.slow
@pytest.mark.parametrize("variance", [10.0, 100.0, 1e4])
def test_series_of_sin_is_its_closed_form(variance):
    """sin has no scale at which it ends: all of its kernel is where u and v are 1 apart."""
    k = variances([variance, 0.98 * variance])
    for rho in CORRELATIONS:
        covariance = rho * torch.outer(k, k).sqrt()
        expected = RECORDS["sin"].value(k[:, None], covariance, k[None])
        torch.testing.assert_close(matrix(moment(torch.sin), k, rho), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("variance", [1e-6, 1.0, 50.0, 900.0, 1e4, 1e5])
@pytest.mark.parametrize("name", ["tanh", "gelu"])
@pytest.mark.slow
def test_diagonals_are_integrals(name, variance):
    root = math.sqrt(variance)
    function = {"tanh": torch.tanh, "gelu": torch.nn.functional.gelu}[name]

    def slope(u: float) -> float:
        if name == "tanh":
            return 1 / math.cosh(u) ** 2 if abs(u) < 300 else 0.0
        density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
        return math.erfc(-u / math.sqrt(2)) / 2 + u * density

    def value(u: float) -> float:
        return float(function(torch.tensor(u, dtype=torch.float64)))

    for found, integrand in ((moment(name), value), (derivative_moment(name), slope)):

        def weighted(u: float, integrand=integrand) -> float:
            return integrand(u) ** 2 * math.exp(-u * u / (2 * variance))

        # g has scale 1 and the density has the scale of the root: parts between all of them.
        ends = sorted({0.0, *(s * min(by, 9) * root for s in (-1, 1) for by in (1, 3, 9))})
        ends = sorted({*ends, *(s * u for s in (-1, 1) for u in (1.0, 5.0, 25.0) if u < 9 * root)})
        parts = [
            integrate.quad(weighted, a, b, epsabs=1e-14, epsrel=1e-12, limit=200)[0]
            for a, b in itertools.pairwise(ends)
        ]
        expected = math.fsum(parts) / (root * math.sqrt(2 * math.pi))
        diagonal = found.diagonal(variances([variance])).item()
        assert diagonal == pytest.approx(expected, rel=1e-10)
        assert matrix(found, variances([variance]), 1.0).item() == pytest.approx(expected, rel=1e-9)


def conditional(function, k11: float, rho: float, k22: float) -> float:
    """E[g(u) g(v)] over u and the part of v that u does not determine."""

    def nodes(root: float) -> tuple[Tensor, Tensor]:
        z = torch.arange(-9, 9, min(0.2, 0.2 / max(root, 1e-9)), dtype=torch.float64)
        weight = torch.exp(-z.square() / 2)
        return z, weight / weight.sum()

    spread = math.sqrt(k22 * (1 - rho**2))
    (z, weight), (rest, density) = nodes(math.sqrt(k11)), nodes(spread)
    total = 0.0
    for some, share in zip(z.split(500), weight.split(500), strict=True):
        v = rho * math.sqrt(k22) * some[:, None] + spread * rest
        total += float(share @ (function(math.sqrt(k11) * some) * (function(v) @ density)))
    return total


@pytest.mark.parametrize("rho", [-0.99999, -0.6, 0.2, 0.9, 0.9999])
@pytest.mark.parametrize("function", [torch.tanh, torch.nn.functional.gelu, torch.sigmoid])
@pytest.mark.slow
def test_pairs_are_integrals(function, rho):
    k11, k22 = 300.0, 120.0
    variance = variances([k11, k22])

    def slope(z: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = z.clone().requires_grad_()
            return torch.autograd.grad(function(leaf).sum(), leaf)[0]

    for found, g in ((moment(function), function), (derivative_moment(function), slope)):
        expected = conditional(g, k11, rho, k22)
        scale = float(found.diagonal(variance).prod().sqrt())
        assert abs(matrix(found, variance, rho)[0, 1].item() - expected) < 1e-9 * scale


@pytest.mark.parametrize("rho", [-0.8, 0.3, 0.9])
def test_tanh_of_large_variance_tends_to_the_sign(rho):
    """E[φφ] → (2/π) arcsin ρ - (2/π) s ρ/(k √(1-ρ²)) and E[φ'φ'] → 2/(π k √(1-ρ²)), s = π²/12."""
    k, root = 1e5, math.sqrt(1 - rho**2)
    law = 2 / math.pi * (math.asin(rho) - BEYOND[0] * rho / (k * root))
    # The next terms are of relative order 1/(k (1-ρ²)), at most 3e-5 here times a few.
    assert matrix(moment("tanh"), variances([k]), rho).item() == pytest.approx(law, abs=1e-8)
    slope = matrix(derivative_moment("tanh"), variances([k]), rho).item()
    assert slope == pytest.approx(2 / (math.pi * k * root), rel=3e-4)


@pytest.mark.slow
def test_nodes_of_both_ways_agree():
    """One set with a large variance among ordinary ones gives the ordinary ones as before."""
    ordinary = variances([1e-6, 0.01, 0.5, 2.0])
    both = torch.cat([ordinary, variances([500.0])])
    for value in (moment("tanh"), moment("gelu"), derivative_moment("gelu")):
        scale = torch.outer(value.diagonal(ordinary), value.diagonal(ordinary)).sqrt()
        for rho in (-1.0, -0.3, 0.0, 0.7, 1.0):
            alone, among = matrix(value, ordinary, rho), matrix(value, both, rho)[:4, :4]
            assert ((alone - among).abs() / scale).max() < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [nngp, ntk])
def test_kernels_of_images_that_are_not_normalised(kernel):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (12, 30), generator=generator, dtype=torch.float64)
    settings = {"depth": 2, "weight_variance": [0.2, 1.5, 1.0], "bias_variance": 0.1}
    expected = kernel(x, activation="erf", **settings)
    torch.testing.assert_close(
        kernel(x, activation=torch.erf, **settings), expected, rtol=1e-8, atol=0
    )
    whole = kernel(x, activation="tanh", **settings)
    assert torch.equal(whole, whole.T)
    for part in (
        kernel(x, activation="tanh", **settings, tile=5),
        kernel(x, x, activation="tanh", **settings),
    ):
        torch.testing.assert_close(part, whole, rtol=1e-8, atol=0)


@pytest.mark.slow
def test_single_precision_at_large_variance():
    generator = torch.Generator().manual_seed(0)
    x = 20 * torch.randn(6, 30, generator=generator)
    settings = {"depth": 1, "weight_variance": [1.0, 1.0], "bias_variance": 0.0}
    for single, double in zip(
        *(nngp_and_ntk(z, activation="gelu", **settings) for z in (x, x.double())), strict=True
    ):
        assert single.dtype == torch.float32
        scale = double.diagonal().sqrt()
        # Points are far apart, so that ρ has its digits; 72 nodes of up to 6 products are summed.
        assert ((single - double) / torch.outer(scale, scale)).abs().max() < 1e-5


@pytest.mark.parametrize("variance", [1.0, 100.0, 1e4, 1e7])
def test_kinks_keep_their_accuracy_at_any_variance(variance):
    """abs and relu are homogeneous: their error is the same at all variances."""
    k = variances([variance, 0.6 * variance])
    for rho in (-1.0, -0.9, 0.0, 0.5, 0.99, 1.0):
        covariance = rho * torch.outer(k, k).sqrt()
        expected = RECORDS["relu"].value(k[:, None], covariance, k[None])
        torch.testing.assert_close(
            matrix(moment(torch.relu), k, rho), expected, rtol=0, atol=1e-4 * variance
        )


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match=re.escape("variance 2e+06, and expectations of this")):
        moment("tanh").features(variances([2e6, 1.0]))
    with pytest.raises(ValueError, match=r"uncertain by .* at variances up to 1e\+04"):
        moment(lambda u: torch.sin(100 * u)).features(variances([1e4, 0.9e4, 0.8e4]))
