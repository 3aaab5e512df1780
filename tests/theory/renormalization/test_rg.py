"""Decimation of unlearnable modes: flows of the ridge and three predictions from it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from theory.regression.exact import posterior
from theory.renormalization.rg import (
    cutoff,
    decimate,
    hard_flow,
    rg_ek,
    rg_gpr,
    rg_ridge,
    sequential_flow,
    soft_flow,
)
from theory.spectrum.learning_curves import effective_ridge, equivalent_kernel, learning_curve

MODES = torch.arange(1, 3001, dtype=torch.float64)
SPECTRUM = MODES**-1.5
POWER = MODES**-1.8
FIELDS = ("error", "bias", "variance", "posterior_variance", "sample_error", "train_error")


@pytest.mark.parametrize("ridge", [1e-8, 0.1, 10.0])
def test_flows_start_from_the_ridge_and_end_where_they_should(ridge):
    train = 100
    hard, soft = hard_flow(SPECTRUM, ridge), soft_flow(SPECTRUM, train, ridge)
    sequential = sequential_flow(SPECTRUM, train, ridge)
    for flow in (hard, soft, sequential):
        assert flow.shape == (3001,)
        assert flow[-1].item() == ridge
        assert (flow.diff() <= 0).all()
    assert hard[0].item() == pytest.approx(ridge + SPECTRUM.sum().item(), rel=1e-12)
    end = train * effective_ridge(SPECTRUM, train, ridge)
    assert soft[0].item() == pytest.approx(end.item(), rel=1e-12)
    assert (soft <= hard).all()
    assert sequential[0] < soft[0]


def test_flows_agree_where_nothing_is_learned():
    """To relative order n λ_1 / T, the learnability of the first mode."""
    train, ridge = 5, 1e5
    hard = hard_flow(SPECTRUM, ridge) - ridge
    for flow in (soft_flow(SPECTRUM, train, ridge), sequential_flow(SPECTRUM, train, ridge)):
        torch.testing.assert_close(flow - ridge, hard, rtol=2 * train / ridge, atol=1e-9)


def test_many_settings_are_each_of_them():
    train = torch.tensor([10.0, 100.0, 900.0]).double()[:, None]
    ridge = torch.tensor([1e-8, 0.1]).double()
    kept = cutoff(SPECTRUM, train, ridge, learnability=0.01)
    assert kept.shape == (3, 2)
    found = {
        theory: theory(SPECTRUM, POWER, train, ridge, kept, 0.1) for theory in (rg_ridge, rg_ek)
    }
    flows = {
        hard_flow: hard_flow(SPECTRUM, ridge).expand(3, -1, -1),
        soft_flow: soft_flow(SPECTRUM, train, ridge),
        sequential_flow: sequential_flow(SPECTRUM, train, ridge),
    }
    for i, n in enumerate(train[:, 0].tolist()):
        for j, t in enumerate(ridge.tolist()):
            alone = cutoff(SPECTRUM, n, t, learnability=0.01)
            assert alone == kept[i, j]
            for theory, curve in found.items():
                one = theory(SPECTRUM, POWER, n, t, int(alone), 0.1)
                for name in one._fields:
                    torch.testing.assert_close(getattr(curve, name)[i, j], getattr(one, name))
            torch.testing.assert_close(flows[hard_flow][i, j], hard_flow(SPECTRUM, t))
            torch.testing.assert_close(flows[soft_flow][i, j], soft_flow(SPECTRUM, n, t))
            alone = sequential_flow(SPECTRUM, n, t)
            torch.testing.assert_close(flows[sequential_flow][i, j], alone)


def test_cutoff_counts_learnable_modes():
    curve = learning_curve(SPECTRUM, POWER, 100, 0.1)
    kept = cutoff(SPECTRUM, 100, 0.1, learnability=0.01)
    assert curve.learnability[kept - 1] >= 0.01 > curve.learnability[kept]
    assert cutoff(SPECTRUM, 100, 1e9, learnability=0.01) == 1


def test_keeping_all_modes_changes_nothing():
    train, ridge = torch.tensor([50.0, 200.0]), torch.tensor(0.1)
    for decimated, theory in ((rg_ridge, learning_curve), (rg_ek, equivalent_kernel)):
        kept = decimated(SPECTRUM, POWER, train, ridge, 3000, 0.2)
        whole = theory(SPECTRUM, POWER, train, ridge, 0.2)
        for name in kept._fields:
            torch.testing.assert_close(getattr(kept, name), getattr(whole, name))
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    kernel = factor @ factor.T
    whole, tail = decimate(kernel, 30)
    torch.testing.assert_close(whole, kernel)
    assert tail.max() < 30 * torch.finfo(torch.float64).eps * kernel.max()


@pytest.mark.parametrize("ridge", [1e-8, 1e-3, 0.1])
def test_unlearnable_modes_are_a_ridge_and_a_noise(ridge):
    """Each mode removed has L < 1 % and is taken for L = 0: errors of order 1 %, at small n/Λ."""
    train, noise = 100, 0.05
    kept = cutoff(SPECTRUM, train, ridge, learnability=0.01)
    assert kept < 1500
    full = learning_curve(SPECTRUM, POWER, train, ridge, noise)
    decimated = rg_ridge(SPECTRUM, POWER, train, ridge, kept, noise)
    for name in (*FIELDS, "effective_ridge", "overfitting"):
        value, expected = getattr(decimated, name).item(), getattr(full, name).item()
        assert value == pytest.approx(expected, rel=0.01), name
    assert decimated.learnability.shape == (3000,)
    # The modes kept, of 1 % < L < 50 %, carry most of the ridge, which the equivalent kernel lacks.
    leading = rg_ek(SPECTRUM, POWER, train, ridge, kept, noise)
    assert leading.error < 0.7 * full.error
    assert leading.effective_ridge < 0.8 * full.effective_ridge


def test_cuts_in_the_learnable_range_err():
    full = learning_curve(SPECTRUM, POWER, 100, 1e-3).error
    errors = [rg_ridge(SPECTRUM, POWER, 100, 1e-3, kept).error for kept in (20, 100, 400, 1600)]
    gaps = [abs(error / full - 1).item() for error in errors]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1


def test_regression_with_truncated_gaussian_features():
    """On the same data, truncated and full regression err alike to about 1 %, `rg_ek` does not."""
    spectrum, power = SPECTRUM[:1000], POWER[:1000]
    target, train, ridge = power.sqrt(), 50, 1e-3
    kept = cutoff(spectrum, train, ridge, learnability=0.01)
    assert kept < 700
    tail = spectrum[kept:].sum()
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(100):
        features = torch.randn(train, 1000, generator=generator, dtype=torch.float64)
        labels, weighted = features @ target, features * spectrum
        # A mode is a test function, with its column of `weighted` as cross kernel.
        full = posterior(weighted @ features.T, weighted.T, spectrum, labels, ridge)
        kernel = weighted[:, :kept] @ features[:, :kept].T
        cross, diagonal = weighted[:, :kept].T, spectrum[:kept]
        cut = rg_gpr(kernel, cross, diagonal, labels, ridge, tail, 0.0)
        errors = [(z.mean - target[: len(z.mean)]).square().sum() for z in (full, cut)]
        variances = [z.variance.sum() for z in (full, cut)]
        rows.append(torch.stack([errors[0], errors[1] + power[kept:].sum(), *variances]))
    table = torch.stack(rows)
    error, cut_error, variance, cut_variance = table.mean(0)
    spread = (table[:, 1] - table[:, 0]).std() / 10
    assert (cut_error - error).abs() < 0.01 * error + 5 * spread
    assert spread < 0.01 * error
    spread = (table[:, 3] + tail - table[:, 2]).std() / 10
    assert (cut_variance + tail - variance).abs() < 0.01 * variance + 5 * spread
    assert rg_ek(spectrum, power, train, ridge, kept).error < 0.7 * error


def legendre(x: Tensor, modes: int) -> Tensor:
    """√(2k + 1) P_k(x), orthonormal for x uniform on [-1, 1]: (n, modes)."""
    values = np.polynomial.legendre.legvander(x.numpy(), modes - 1)
    return torch.from_numpy(values * np.sqrt(2 * np.arange(int(modes)) + 1))


def test_ridge_of_legendre_modes_depends_on_the_position():
    """v(x) = (2/π) Σ_{k>Λ} λ_k / √(1 - x²) away from the ends, by the oscillation of P_k."""
    kept, modes = 60, 600
    spectrum = torch.arange(1, modes + 1, dtype=torch.float64) ** -2.0
    x = torch.linspace(-0.8, 0.8, 4001, dtype=torch.float64)
    features = legendre(x, modes)
    tail = features[:, kept:].square() @ spectrum[kept:]
    predicted = (2 / math.pi) * spectrum[kept:].sum() / torch.sqrt(1 - x.square())
    # The modes' oscillations, of period π/Λ, average out over a window of many.
    windows = (tail / predicted).reshape(-1)[:4000].reshape(10, 400).mean(1)
    torch.testing.assert_close(windows, torch.ones(10).double(), rtol=0.02, atol=0)


def test_ridge_of_the_position_is_closer_to_the_whole_regression():
    """Averages over data of the modes kept: T(x) is at least five times closer than T(Λ)."""
    modes, train, ridge, datasets = 300, 60, 1.0, 150
    spectrum = torch.arange(1, modes + 1, dtype=torch.float64) ** -1.5
    kept = cutoff(spectrum, train, ridge, learnability=0.05)
    assert kept < 100
    generator = torch.Generator().manual_seed(2)
    target = spectrum[:kept].sqrt() * torch.randn(kept, generator=generator, dtype=torch.float64)
    probe = legendre(torch.linspace(-0.98, 0.98, 99, dtype=torch.float64), kept)
    diagonal = probe.square() @ spectrum[:kept]
    rows = []
    for _ in range(datasets):
        x = 2 * torch.rand(train, generator=generator, dtype=torch.float64) - 1
        features = legendre(x, modes)
        y = features[:, :kept] @ target
        truncated = (features[:, :kept] * spectrum[:kept]) @ features[:, :kept].T
        cross = (probe * spectrum[:kept]) @ features[:, :kept].T
        # f_< under the whole prior, whose modes beyond the cutoff enter the training kernel only.
        whole = posterior((features * spectrum) @ features.T, cross, diagonal, y, ridge)
        tail = features[:, kept:].square() @ spectrum[kept:]
        gaps = []
        for part in (tail, float(spectrum[kept:].sum())):
            decimated = rg_gpr(truncated, cross, diagonal, y, ridge, part, 0.0)
            gaps += [decimated.mean - whole.mean, decimated.variance - whole.variance]
        rows.append(torch.stack(gaps))
    distance = torch.stack(rows).mean(0).square().mean(1).sqrt()
    mean_local, variance_local, mean_uniform, variance_uniform = distance.tolist()
    assert mean_local < mean_uniform / 5
    assert variance_local < variance_uniform / 5


def test_decimation_of_a_pool():
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(40, 25, generator=generator, dtype=torch.float64)
    kernel = factor @ factor.T
    truncated, tail = decimate(kernel, 7)
    values = torch.linalg.eigvalsh(kernel)
    leading = torch.linalg.eigvalsh(truncated)
    torch.testing.assert_close(leading[-7:], values[-7:])
    assert leading[:-7].abs().max() < 1e-12 * values[-1]
    torch.testing.assert_close(truncated.diagonal() + tail, kernel.diagonal())
    assert tail.sum().item() == pytest.approx(values[:-7].sum().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cutoff(SPECTRUM, 10, 0.1, learnability=1.5), r"learnability is 1\.5"),
        (lambda: hard_flow(SPECTRUM.flip(0), 0.1), "largest first"),
        (lambda: sequential_flow(SPECTRUM, 10, 0.0), "ridge is 0"),
        (lambda: rg_ridge(SPECTRUM, POWER, 10, 0.1, 0), "cutoff is 0 of 3000"),
        (lambda: rg_ek(SPECTRUM, POWER, 10, 0.1, 3001), "cutoff is 3001"),
        (lambda: decimate(torch.eye(3), 4), "cutoff is 4 of 3"),
    ],
)
def test_what_a_user_can_get_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
