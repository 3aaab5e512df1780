"""Which of some points are the same, so that a kernel treats them as one.

A covariance of equal points that is computed like any other pair differs from their variance by
rounding, and where correlations are unstable (χ_⊥ > 1) rounding grows exponentially with depth.
"""

import numpy as np
import torch
from torch import Tensor


def first_equal(rows: Tensor) -> Tensor:
    """For each row (n, d) the place of the first one with the same numbers, (n,)."""
    numbers = np.ascontiguousarray((rows.detach() + 0).cpu().numpy())  # -0 becomes 0
    width = numbers.shape[1] * numbers.itemsize
    first: dict[bytes, int] = {}
    found = [
        first.setdefault(row, place)
        for place, row in enumerate(numbers.view(f"S{width}").ravel().tolist())
    ]
    return torch.tensor(found, dtype=torch.int64, device=rows.device)


def met(value: Tensor, own: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Values (..., n1, n2) of pairs, replaced by `own` (..., n1) where two of them are equal.

    `rows` (..., n1) and `columns` (..., n2) are numbers that equal ones have in common.
    """
    if not bool(torch.isin(rows.flatten(), columns.flatten()).any()):
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
