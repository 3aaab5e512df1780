"""Eigenvectors of large symmetric matrices, by scipy and in the memory that there is."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

Array = NDArray[np.float64]

DENSE = 2048  # points up to which a whole decomposition is no matter


def decompose(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, smallest first, and eigenvectors in columns; the matrix is lost."""
    return eigh(matrix.T, overwrite_a=True, check_finite=False, driver="evd")


def leading(matrix: Array, count: int) -> Array:
    """Eigenvectors of the largest eigenvalues, largest first: (points, count) of (points, points).

    Those of a large matrix by restarted Lanczos, to rounding. Lehoucq, Sorensen and Yang (1998,
    doi:10.1137/1.9780898719628).
    """
    if len(matrix) > max(DENSE, 2 * count):
        return lanczos(matrix, count)
    vectors = decompose(matrix.copy())[1][:, -count:]
    return np.ascontiguousarray(vectors[:, ::-1])


def lanczos(matrix: Array | LinearOperator, count: int) -> Array:
    """The same for a large matrix, of which nothing but products with vectors is asked."""
    start = np.random.Generator(np.random.Philox(key=0)).standard_normal(matrix.shape[0])
    vectors = eigsh(matrix, count, which="LA", v0=start)[1]
    return np.ascontiguousarray(vectors[:, ::-1])
