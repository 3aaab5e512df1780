"""Regressions whose kernel is on a device: the CPU's to rounding, and what goes wrong is noticed.

torch on the CPU stands for a device that computes, torch's meta device for one that does not.
"""

import pytest
import torch
from torch import Tensor

from support.device_audit import DEVICE, Audit
from theory.numerics import device_linear, eigen
from theory.regression import learning_curve as module
from theory.regression.learning_curve import Heldout, LearningCurve, learning_curve
from theory.regression.on_device import pool_on
from theory.regression.refinement import ACCURATE
from theory.spectrum.learning_curves import pool_spectrum

POINTS, SIZES, RIDGES = 60, [8, 20, 45], [0.03, 0.3]
FIELDS = LearningCurve._fields


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A smooth kernel, two targets, and a few modes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(POINTS + 10, 3, generator=generator, dtype=torch.float64)
    kernel = torch.exp(-torch.cdist(x, x).square() / 4)
    y = torch.randn(POINTS, 2, generator=generator, dtype=torch.float64)
    return kernel, y, torch.linalg.eigh(kernel[:POINTS, :POINTS])[1][:, -5:]


def curve(kernel: Tensor, y: Tensor, modes: Tensor, method: str, given: bool, **settings):
    """With draws that repeat points, noise, and points outside the pool if they are `given`."""
    generator = torch.Generator().manual_seed(1)
    order = torch.randint(POINTS, (max(SIZES),), generator=generator)
    noise = torch.randn(max(SIZES), 2, generator=generator, dtype=torch.float64) / 10
    heldout = Heldout(kernel[POINTS:, :POINTS], y[:10]) if given else None
    return learning_curve(
        kernel[:POINTS, :POINTS],
        y,
        order,
        SIZES,
        RIDGES,
        label_noise=noise,
        heldout=heldout,
        modes=modes,
        methods=[method] * len(RIDGES),
        **settings,
    )


def there(monkeypatch) -> None:
    """From now on a kernel of the CPU is taken for one on a device."""
    monkeypatch.setattr(module, "_pool", lambda kernel, order, _: pool_on(kernel, order))
    monkeypatch.setattr(module, "_rows", lambda kernel: kernel)


def close(found: LearningCurve, expected: LearningCurve) -> None:
    for name, one, other in zip(FIELDS, found, expected, strict=True):
        if name != "residual":
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert (found.residual < ACCURATE).all()


@pytest.mark.parametrize("method", ["double", "spectrum"])
@pytest.mark.parametrize("given", [True, False])
def test_a_device_finds_what_the_cpu_finds(method, given, monkeypatch):
    expected = curve(*problem(), method, given)
    there(monkeypatch)
    close(curve(*problem(), method, given), expected)


def broken(function, place: int):
    """What a library gives that is wrong in one row of one of its matrices."""

    def wrong(matrix: Tensor):
        found = list(function(matrix))
        found[place] = found[place].clone()
        found[place][len(matrix) // 2] *= 1.01
        return tuple(found)

    return wrong


def failing(_: Tensor):
    raise torch.linalg.LinAlgError("it did not converge\nat all")


WRONG = [
    ("double", "cholesky_ex", broken(torch.linalg.cholesky_ex, 0)),
    ("spectrum", "eigh", broken(torch.linalg.eigh, 1)),
    ("spectrum", "eigh", failing),
]


@pytest.mark.parametrize(("method", "name", "function"), WRONG)
def test_what_a_library_gets_wrong_the_cpu_does_again_and_is_told(
    method, name, function, monkeypatch
):
    given = problem()
    expected = curve(*given, method, given=False)
    there(monkeypatch)
    monkeypatch.setattr(torch.linalg, name, function)
    told: list[str] = []
    close(curve(*given, method, given=False, tell=told.append), expected)
    assert len(told) == (len(SIZES) if method == "spectrum" else len(RIDGES))
    assert not any("\n" in each for each in told)


def test_sizes_that_are_not_definite_are_refused_as_on_the_cpu(monkeypatch):
    kernel, y, modes = problem()
    order = torch.arange(30).repeat(2)[:45]  # without a ridge, repeated points are one too many
    given = (kernel[:POINTS, :POINTS], y, order, SIZES, [0.0])
    expected = learning_curve(*given, modes=modes)
    there(monkeypatch)
    found = learning_curve(*given, modes=modes)
    assert found.refused.tolist() == expected.refused.tolist() == [[0], [0], [1]]
    torch.testing.assert_close(found.pool_error, expected.pool_error, equal_nan=True)


def test_factors_of_hard_matrices_hold_and_those_of_others_do_not():
    """Rounding passes whatever the condition; a factor of a matrix that is 10⁻⁹ off does not."""
    line = torch.linspace(0, 1, 300, dtype=torch.float64)
    kernel = torch.exp(-((line[:, None] - line) * 4).square())
    for ridge in (1e-10, 1e-3, 1e3):
        matrix = kernel + ridge * torch.eye(300, dtype=torch.float64)
        lower, definite = device_linear.factorize(matrix)
        assert definite == 300
        assert not device_linear.factor_is_wrong(matrix, lower)
        assert device_linear.factor_is_wrong(matrix * (1 + 1e-9), lower)
        assert not device_linear.decompose(matrix)[2]


def test_leading_modes_of_a_device_are_those_of_the_cpu(monkeypatch):
    kernel = problem()[0]
    monkeypatch.setattr(eigen, "DENSE", 0)  # as if the matrix were large
    found = torch.from_numpy(device_linear.leading(kernel, 5))
    expected = torch.linalg.eigh(kernel)[1][:, -5:].flip(1)
    overlap = (found * expected).sum(0).abs()
    torch.testing.assert_close(overlap, torch.ones_like(overlap), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["double", "spectrum"])
@pytest.mark.parametrize("given", [True, False])
def test_matrices_stay_on_the_device_and_columns_come_home(method, given):
    kernel, y, modes = problem()
    with Audit() as audit:
        curve(kernel.to(DEVICE), y, modes, method, given)
        pool_spectrum(kernel[:POINTS, :POINTS].to(DEVICE), y.to(DEVICE))
    columns = len(SIZES) * y.shape[1]
    assert audit.largest <= POINTS * columns < POINTS**2
