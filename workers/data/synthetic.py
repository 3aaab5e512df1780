"""Synthetic problems: a law of inputs and a teacher, both functions of latent points z.

The latent points are N(0, I_d), or uniform on the sphere |z|² = d. Sums over a row are taken row
by row and without a BLAS, so that the bits of a point depend neither on how many there are nor
on the number of threads.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermevander
from numpy.polynomial.legendre import legvander
from numpy.polynomial.polynomial import polyvander

from workers.data.dataset import Array, Points, drawn
from workers.data.normalize import rescale

BASES = {"hermite": hermevander, "monomial": polyvander}


@dataclass(frozen=True, eq=False)
class Law:
    """x = stretch ∘ z, with a target that is a sum of components."""

    stretch: Array  # (d,)
    components: Callable[[Array], Array]  # z (n, d) -> (n, component)
    teacher: Array | None  # unit vector, (d,) or (patch_size,)

    def draw(
        self,
        count: int,
        inputs: str,
        scale: float,
        generator: np.random.Generator,
        what: str = "the points",
    ) -> Points:
        """`count` points with latent inputs of this kind, multiplied by `scale`."""
        z = scale * latent(inputs, count, len(self.stretch), generator)
        return Points(self.stretch * z, self.components(z), drawn(what))


def latent(inputs: str, count: int, dimension: int, generator: np.random.Generator) -> Array:
    """Points (count, d) from N(0, I_d) ("gaussian") or uniform on |z|² = d ("sphere").

    "legendre" are the functions √(2k + 1) P_k(u), k < d, of u uniform on [-1, 1]: orthonormal too,
    but of one variable, so that Σ z_k² over some of them depends on where a point is.
    """
    if inputs == "legendre":
        u = 2 * generator.random(count) - 1
        scales = np.sqrt(2 * np.arange(dimension) + 1)
        return np.asarray(legvander(u, dimension - 1) * scales, dtype=np.float64)
    z = generator.standard_normal((count, dimension))
    return rescale(z, dimension) if inputs == "sphere" else z


def single_index(
    dimension: int, coefficients: Mapping[int, float], basis: str, generator: np.random.Generator
) -> Law:
    """y = Σ_k c_k He_k(w*·x) ("hermite") or Σ_k c_k (w*·x)^k ("monomial"), one component per k.

    He_k are the probabilists' Hermite polynomials, <He_k He_l> = k! δ_kl under N(0, 1), and w* is
    uniform on the unit sphere. Components come in increasing order k.
    """
    teacher = _unit(dimension, generator)

    def components(z: Array) -> Array:
        return _series(basis, np.sum(z * teacher, axis=1), coefficients)

    return Law(np.ones(dimension), components, teacher)


def multi_index(
    dimension: int, coefficients: Mapping[int, Mapping[int, float]], generator: np.random.Generator
) -> Law:
    """y = Σ_i Σ_k c_ik He_k(w*_i·x) with coefficients c_ik of each direction i = 1..r.

    The directions w*_i are orthonormal and uniform, so that under N(0, I) all components are
    orthogonal. These come direction by direction, in increasing order k; the teacher is w*_1.
    """
    directions = orthonormal(len(coefficients), dimension, generator)

    def components(z: Array) -> Array:
        parts = [
            _series("hermite", np.sum(z * direction, axis=1), coefficients[i])
            for i, direction in enumerate(directions, start=1)
        ]
        return np.concatenate(parts, axis=1)

    return Law(np.ones(dimension), components, directions[0])


def abs_index(dimension: int, epsilon: float, generator: np.random.Generator) -> Law:
    """y = v·x + ε(|v·x| - √(2/π)), its two components, with v uniform on the unit sphere.

    Under N(0, I) they have zero mean, are orthogonal, and have variances 1 and ε²(1 - 2/π).
    """
    teacher = _unit(dimension, generator)

    def components(z: Array) -> Array:
        along = np.sum(z * teacher, axis=1)
        return np.stack([along, epsilon * (np.abs(along) - math.sqrt(2 / math.pi))], axis=1)

    return Law(np.ones(dimension), components, teacher)


def linear(dimension: int, generator: np.random.Generator) -> Law:
    """y = w*·x with w* uniform on the unit sphere."""
    return single_index(dimension, {1: 1.0}, "monomial", generator)


def patches(
    count: int,
    size: int,
    coefficients: Mapping[int, float],
    readout: str,
    generator: np.random.Generator,
) -> Law:
    """y = Σ_i a*_i Σ_k c_k He_k(w*·x_i) over `count` patches x_i of x, one component per k.

    w* is uniform on the unit sphere; a*_i = 1/√count ("equal"), or a* is uniform on the unit sphere
    too ("random"). Components k, l > 0 have <g_k g_l> = k! c_k² δ_kl. With k = 1 this is the linear
    convolutional teacher of Naveh and Ringel (2021, arXiv:2106.04110).
    """
    teacher = _unit(size, generator)
    equal = np.full(count, 1 / math.sqrt(count))
    weights = equal if readout == "equal" else _unit(count, generator)

    def components(z: Array) -> Array:
        along = np.sum(z.reshape(-1, count, size) * teacher, axis=2)
        parts = _series("hermite", along, coefficients)
        return np.sum(weights[:, None] * parts, axis=1)

    return Law(np.ones(count * size), components, teacher)


def power_law(
    modes: int,
    eigenvalue_exponent: float,
    target_exponent: float,
    generator: np.random.Generator,
) -> Law:
    """x_k = √(M λ_k) z_k and y = Σ_k ±w_k z_k with random signs, for k = 1..M.

    λ_k = k^-(1+α) are the eigenvalues of the linear kernel x·x'/M on this population and
    w_k = k^-((1+β)/2) the coefficients of the target. Bordelon, Canatar, Pehlevan (2020,
    arXiv:2002.02561).
    """
    k = np.arange(1, modes + 1, dtype=np.float64)
    signs = np.where(generator.random(modes) < 0.5, -1.0, 1.0)
    weights = signs * k ** (-(1 + target_exponent) / 2)
    stretch = np.sqrt(modes * k ** -(1 + eigenvalue_exponent))
    return Law(stretch, lambda z: np.sum(z * weights, axis=1)[:, None], None)


def orthonormal(count: int, dimension: int, generator: np.random.Generator) -> Array:
    """Orthonormal vectors (count, dimension), uniform; fewer of them are the first of more.

    Gram-Schmidt, twice over, which is enough: Giraud et al. (2005,
    doi:10.1016/j.camwa.2005.08.009).
    """
    vectors = generator.standard_normal((count, dimension))
    for i in range(count):
        for other in [*vectors[:i], *vectors[:i]]:
            vectors[i] -= np.sum(other * vectors[i]) * other
        vectors[i] = rescale(vectors[i : i + 1], 1.0)[0]
    return vectors


def _unit(dimension: int, generator: np.random.Generator) -> Array:
    """A vector (dimension,) that is uniform on the unit sphere."""
    return orthonormal(1, dimension, generator)[0]


def _series(basis: str, z: Array, coefficients: Mapping[int, float]) -> Array:
    """c_k P_k(z) for the orders k, increasing along a last axis that z does not have."""
    orders = sorted(coefficients)
    weights = np.array([coefficients[order] for order in orders])
    powers = BASES[basis](z, max(orders))[..., orders]
    return np.ascontiguousarray(weights * powers, dtype=np.float64)
