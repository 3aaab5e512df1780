"""Cholesky factors and solves with them: by scipy's LAPACK on a CPU, by torch elsewhere.

Of the two that torch and scipy bring along, scipy's is the faster one on many a CPU. Matrices are
(n, n) float64 in rows; a factor is lower triangular, and what is above its diagonal is not read.
"""

import torch
from scipy.linalg import get_blas_funcs, get_lapack_funcs
from torch import Tensor

_factorize, _solve = get_lapack_funcs(("potrf", "potrs"), dtype="float64")
(_whiten,) = get_blas_funcs(("trsm",), dtype="float64")


def factorize(matrix: Tensor) -> int:
    """Overwrite a symmetric matrix by L with LLᵀ equal to it; the order of the first leading block
    that is not positive definite, 0 if there is none.
    """
    if matrix.device.type == "cpu":
        return int(_factorize(matrix.numpy().T, lower=0, clean=0, overwrite_a=1)[1])
    factor, info = torch.linalg.cholesky_ex(matrix)
    matrix.copy_(factor)
    return int(info)


def whiten(factor: Tensor, columns: Tensor) -> Tensor:
    """L⁻¹ columns, (n, m)."""
    if factor.device.type == "cpu":
        upper, right = factor.numpy().T, columns.numpy()
        return torch.from_numpy(_whiten(1, upper, right, lower=0, trans_a=1))
    return torch.linalg.solve_triangular(factor, columns, upper=False)


def solve(factor: Tensor, columns: Tensor) -> Tensor:
    """(LLᵀ)⁻¹ columns, (n, m)."""
    if factor.device.type == "cpu":
        return torch.from_numpy(_solve(factor.numpy().T, columns.numpy(), lower=0)[0])
    return torch.cholesky_solve(columns, factor)
