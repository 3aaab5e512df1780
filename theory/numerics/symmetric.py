"""Symmetric matrices as vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor


def packed(matrices: Sequence[Tensor]) -> Tensor:
    """The upper halves of symmetric matrices, one after another."""
    halves = [torch.triu_indices(*matrix.shape, device=matrix.device) for matrix in matrices]
    return torch.cat([m[rows, cols] for m, (rows, cols) in zip(matrices, halves, strict=True)])


def unpacked(vector: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The symmetric matrices of those sizes whose upper halves a vector holds."""
    found, start = [], 0
    for size in sizes:
        rows, columns = torch.triu_indices(size, size, device=vector.device)
        matrix = vector.new_zeros(size, size)
        matrix[rows, columns] = vector[start : start + len(rows)]
        start += len(rows)
        found.append(matrix + matrix.triu(1).T)
    return found
