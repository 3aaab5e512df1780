"""Synthetic problems: a law of inputs and a teacher, both functions of latent points z.

The latent points are N(0, I_d), or uniform on the sphere |z|² = d. Sums over a row are taken row
by row and without a BLAS, so that the bits of a point depend neither on how many there are nor
on the number of threads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermevander
from numpy.polynomial.polynomial import polyvander

from workers.data.dataset import Array, Points
from workers.data.normalize import rescale

BASES = {"hermite": hermevander, "monomial": polyvander}


@dataclass(frozen=True, eq=False)
class Law:
    """x = stretch ∘ z, with a target that is a sum of components."""

    stretch: Array  # (d,)
    components: Callable[[Array], Array]  # z (n, d) -> (n, component)
    teacher: Array | None  # (d,), unit vector

    def draw(self, count: int, inputs: str, scale: float, generator: np.random.Generator) -> Points:
        """`count` points with latent inputs of this kind, multiplied by `scale`."""
        z = scale * latent(inputs, count, len(self.stretch), generator)
        return Points(self.stretch * z, self.components(z))


def latent(inputs: str, count: int, dimension: int, generator: np.random.Generator) -> Array:
    """Points (count, d) from N(0, I_d) ("gaussian") or uniform on |z|² = d ("sphere")."""
    z = generator.standard_normal((count, dimension))
    return rescale(z, dimension) if inputs == "sphere" else z


def single_index(
    dimension: int, coefficients: Mapping[int, float], basis: str, generator: np.random.Generator
) -> Law:
    """y = Σ_k c_k He_k(w*·x) ("hermite") or Σ_k c_k (w*·x)^k ("monomial"), one component per k.

    He_k are the probabilists' Hermite polynomials, <He_k He_l> = k! δ_kl under N(0, 1), and w* is
    uniform on the unit sphere. Components come in increasing order k.
    """
    teacher = rescale(generator.standard_normal((1, dimension)), 1.0)[0]
    orders = sorted(coefficients)
    weights = np.array([coefficients[order] for order in orders])

    def components(z: Array) -> Array:
        powers = BASES[basis](np.sum(z * teacher, axis=1), max(orders))
        return np.ascontiguousarray(weights * powers[:, orders])

    return Law(np.ones(dimension), components, teacher)


def linear(dimension: int, generator: np.random.Generator) -> Law:
    """y = w*·x with w* uniform on the unit sphere."""
    return single_index(dimension, {1: 1.0}, "monomial", generator)


def power_law(
    modes: int,
    eigenvalue_exponent: float,
    target_exponent: float,
    generator: np.random.Generator,
) -> Law:
    """x_k = √(M λ_k) z_k and y = Σ_k ±w_k z_k with random signs, for k = 1..M.

    λ_k = k^-(1+α) are the eigenvalues of the linear kernel x·x'/M on this population and
    w_k = k^-((1+β)/2) the coefficients of the target. Bordelon, Canatar, Pehlevan (2020).
    """
    k = np.arange(1, modes + 1, dtype=np.float64)
    signs = np.where(generator.random(modes) < 0.5, -1.0, 1.0)
    weights = signs * k ** (-(1 + target_exponent) / 2)
    stretch = np.sqrt(modes * k ** -(1 + eigenvalue_exponent))
    return Law(stretch, lambda z: np.sum(z * weights, axis=1)[:, None], None)
