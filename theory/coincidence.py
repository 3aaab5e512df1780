"""Which of some points are the same, so that a kernel treats them as one.

A covariance of equal points that is computed like any other pair differs from their variance by
rounding, and where correlations are unstable (χ_⊥ > 1) rounding grows exponentially with depth.
"""

import torch
from torch import Tensor

ROWS = 4096  # at a time


def first_equal(rows: Tensor) -> Tensor:
    """For each row the place of the first one with the same numbers, (n,).

    Rows are told apart by sums of their bits with odd multipliers, modulo 2^64, and then compared.
    """
    rows = rows.detach()
    generator = torch.Generator().manual_seed(rows.shape[1])
    odd = torch.randint(-(2**62), 2**62, rows.shape[1:], generator=generator).to(rows.device) | 1
    keys = torch.cat([(_bits(part) * odd).sum(1) for part in rows.split(ROWS)])
    place = torch.arange(len(rows), device=rows.device)
    known, which = keys.unique(return_inverse=True)
    if len(known) == len(rows):
        return place
    first = place.new_full((len(known),), len(rows)).scatter_reduce(0, which, place, "amin")[which]
    later = (first < place).nonzero().squeeze(1)
    same = torch.cat([(rows[some] == rows[first[some]]).all(1) for some in later.split(ROWS)])
    return place.index_copy(0, later[same], first[later[same]])


def _bits(rows: Tensor) -> Tensor:
    """Integers that differ where the numbers do; 0 and -0 are the same number."""
    if not rows.is_floating_point():
        return rows
    return (rows.double() + 0.0).view(torch.int64)


def met(value: Tensor, own: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Values (..., n1, n2) of pairs, replaced by `own` (..., n1) where two of them are equal.

    `rows` (..., n1) and `columns` (..., n2) are numbers that equal ones have in common.
    """
    if not bool(torch.isin(rows, columns).any()):
        return value
    return torch.where(rows[..., None] == columns[..., None, :], own[..., None], value)


def settle(matrix: Tensor, own: Tensor, first: Tensor, cross: bool) -> None:
    """Give equal points equal rows, and their own variance where they meet.

    `own` are the variances of the points, `first` is their `first_equal`. The matrix (n, n) is of
    all points with each other; if `cross`, of the first n1 points with the n2 that follow.
    """
    count = len(matrix)
    if not cross:
        matrix.diagonal().copy_(own)
        _repeat(matrix, first)
        _repeat(matrix.T, first)
        return
    columns = first[count:]
    met = (columns < count).nonzero().squeeze(1)
    matrix[columns[met], met] = own[columns[met]].to(matrix.dtype)
    _repeat(matrix, first[:count])
    _repeat(matrix.T, first_equal(columns[:, None]))


def _repeat(matrix: Tensor, first: Tensor) -> None:
    for place in (first != torch.arange(len(first), device=first.device)).nonzero().flatten():
        matrix[place] = matrix[first[place]]
