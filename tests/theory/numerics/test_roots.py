"""Newton-Krylov steps, continuation and fixed points."""

import itertools
import math

import pytest
import torch

from theory.numerics.fixed_point import fixed_point
from theory.numerics.newton_krylov import continued, find_root
from theory.numerics.symmetric import packed, unpacked

torch.set_num_threads(1)


def quadratic_matrix_equation(size=12):
    """X = 1 + A X + X Aᵀ + X B X/4 is solved by the residual's root."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = 0.3 * a / math.sqrt(size), 0.2 * (b + b.T) / math.sqrt(size)

    def residual(vector):
        (x,) = unpacked(vector, [size])
        return vector - packed([torch.eye(size) + a @ x + x @ a.T + x @ b @ x / 4])

    return residual, packed([torch.zeros(size, size).double()])


def test_a_matrix_equation_is_solved_to_the_tolerance():
    residual, start = quadratic_matrix_equation()
    root = find_root(residual, start, 1e-11)
    assert root.residual <= 1e-11
    assert residual(root.position).abs().max().item() == root.residual


def test_steps_stay_in_the_domain():
    """√z = 4 from z = 1/100, where Newton's first step goes beyond the bound put at 20."""

    def residual(z):
        return z.sqrt() - 4 if bool((z >= 0).all()) and bool((z <= 20).all()) else None

    root = find_root(residual, torch.full((3,), 0.01).double(), 1e-12)
    torch.testing.assert_close(root.position, torch.full((3,), 16.0).double())


def test_steps_that_are_not_trusted_are_not_tried():
    """ln z = ln 16 from 1/2, where Newton's first step takes z to 2.2: with twice at most allowed
    r is not asked at more than twice of where it was asked, nor at less than half.
    """
    asked = []

    def residual(z):
        asked.append(z.item())
        return z.log() - math.log(16)

    def trusted(before):
        return lambda after: bool((after > before / 2).all()) and bool((after < 2 * before).all())

    root = find_root(residual, torch.full((1,), 0.5).double(), 1e-12, trusted)
    assert root.position.item() == pytest.approx(16.0)
    reached = sorted(asked)
    assert all(b <= 2 * a for a, b in itertools.pairwise(reached))
    asked.clear()
    assert find_root(residual, torch.full((1,), 0.5).double(), 1e-12).residual <= 1e-12
    assert not all(b <= 2 * a for a, b in itertools.pairwise(sorted(asked)))


def test_a_start_outside_the_domain_has_no_residual():
    assert find_root(lambda z: None, torch.zeros(2), 1e-8).residual == math.inf


def test_continuation_reaches_what_newton_alone_does_not():
    """z = c g(z) with g steep at the end: arctan overshoots from 0, where the slope is least."""

    def residual_at(strength):
        return lambda z: torch.atan(400 * (z - 3 * strength)) + 0.01 * z - 0.03 * strength

    alone = find_root(residual_at(1.0), torch.zeros(1).double(), 1e-10)
    followed = continued(residual_at, torch.zeros(1).double(), 1e-10)
    assert alone.residual > 1e-2
    assert followed.residual <= 1e-10
    assert followed.position.item() == pytest.approx(3.0, abs=1e-10)


def test_continuation_that_meets_an_end_says_so():
    """z = c (1 + z²) has no root above c = 1/2."""
    found = continued(
        lambda strength: lambda z: z - strength * (1 + z.square()), torch.zeros(1).double(), 1e-10
    )
    assert found.residual > 1e-10


def test_fixed_point_of_a_map_that_diverges_when_iterated():
    generator = torch.Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    matrix = turn @ torch.tensor([-3.0, -2.0, -0.5, 0.3, 0.6, 0.9]).double().diag() @ turn.T
    offset = torch.randn(6, generator=generator, dtype=torch.float64)
    found = fixed_point(lambda z: matrix @ z + offset, torch.zeros(6).double(), 1e-10)
    assert found.residual <= 1e-10
    expected = torch.linalg.solve(torch.eye(6) - matrix, offset)
    torch.testing.assert_close(found.position, expected, rtol=0, atol=1e-8)


def test_packing_keeps_symmetric_matrices():
    generator = torch.Generator().manual_seed(2)
    matrices = [torch.randn(k, k, generator=generator).double() for k in (1, 3, 4)]
    matrices = [matrix + matrix.T for matrix in matrices]
    vector = packed(matrices)
    assert vector.shape == (1 + 6 + 10,)
    for found, matrix in zip(unpacked(vector, [1, 3, 4]), matrices, strict=True):
        assert torch.equal(found, matrix)
