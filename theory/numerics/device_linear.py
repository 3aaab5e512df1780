"""Factors of large matrices on a device, each held against the matrix that it was made of.

Matrices are (n, n) float64, one at a time: batches of large ones are where libraries have been
found wrong. A check multiplies a few vectors, which costs n² and finds what is wrong at large.
"""

import numpy as np
import torch
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor

from theory.numerics import eigen
from theory.numerics.eigen import Array

PROBES = 4  # vectors of a check
SLACK = 10.0  # times n ε, which errors of rounding stay below


def factorize(matrix: Tensor) -> tuple[Tensor, int]:
    """L with LLᵀ equal to a symmetric matrix, and the order of the leading block that is positive
    definite.
    """
    lower, info = torch.linalg.cholesky_ex(matrix)
    return lower, len(matrix) if bool(info == 0) else int(info) - 1


def factor_is_wrong(matrix: Tensor, lower: Tensor) -> str:
    """How far LLᵀ is from the matrix, if that is beyond rounding; else nothing."""
    probes = _probes(matrix)
    missed = lower @ (lower.mT @ probes) - matrix @ probes
    return _beyond(missed, matrix)


def decompose(matrix: Tensor) -> tuple[Tensor, Tensor, str]:
    """Eigenvalues, smallest first, eigenvectors in columns, and what is wrong with them, if so."""
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
        return matrix[0], matrix, str(error).partition("\n")[0]
    probes = _probes(matrix)
    modes = vectors.mT @ probes
    wrong = _beyond(vectors @ (values[:, None] * modes) - matrix @ probes, matrix)
    return values, vectors, wrong or _beyond(vectors @ modes - probes, None)


def leading(matrix: Tensor, count: int) -> Array:
    """Eigenvectors of the largest eigenvalues, at home: as `theory.numerics.eigen.leading`."""
    if len(matrix) <= max(eigen.DENSE, 2 * count):
        return eigen.leading(matrix.cpu().numpy(), count)

    return eigen.lanczos(aslinearoperator(_Product(matrix)), count)


class _Product:
    """A matrix on a device, of which SciPy asks products with vectors at home."""

    dtype = np.dtype(np.float64)

    def __init__(self, matrix: Tensor) -> None:
        self._matrix, self.shape = matrix, tuple(matrix.shape)

    def matvec(self, vector: Array) -> Array:
        """A product."""
        right = torch.from_numpy(np.ascontiguousarray(vector)).to(self._matrix.device)
        return (self._matrix @ right).cpu().numpy()


def _probes(matrix: Tensor) -> Tensor:
    """Vectors of ones with signs in which nothing is special, (n, PROBES)."""
    places = torch.arange(len(matrix), device=matrix.device, dtype=torch.float64)
    shifts = torch.arange(1, PROBES + 1, device=matrix.device, dtype=torch.float64)
    return (places[:, None].square() * shifts.sqrt()).sin().sign()


def _beyond(missed: Tensor, matrix: Tensor | None) -> str:
    """What products of the probes are off, beside the norms of matrix and probe."""
    count = len(missed)
    scale = count**0.5 * (1.0 if matrix is None else matrix.norm())
    off = missed.norm(dim=0).max() / scale
    limit = SLACK * count * torch.finfo(torch.float64).eps
    return "" if bool(off <= limit) else f"{float(off):.1g} off, wanted at most {limit:.1g}"
