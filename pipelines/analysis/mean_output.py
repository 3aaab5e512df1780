"""The mean output held against what a theory predicts of it, where its error is near the noise.

`mse_mean` is the mean over pairs of chains of ⟨(f₁ - y)(f₂ - y)⟩, with ⟨·⟩ the mean over the test
points. With f_c = f* + ε_c of a theory that is right it is off by 2⟨ε̄, g⟩ + ⟨ε₁ε₂⟩, g = f* - y:
what is linear in the chains, and what is quadratic. Near the target the second is what is left, and
pseudo-values, which are linear at the estimate, then know neither its size nor its law: a joint
test with the learnability rejects true theories in up to 30 % of cases instead of 5 %. So

- a joint test takes 2⟨f_c - f*, g⟩ of each chain, which is linear at what is predicted and exact at
  any distance, and is moved to the mean that is measured only where the quadratic part is small
  beside what this observable adds to the others: nothing is lost far from the target, and near it
  what is linear has all that there is to know of the error to first order. A bootstrap could not
  resolve p-values of 10⁻³ with 8 chains, and to drop the observable would lose what is known;
- alone, where the predicted error is within the noise, the mean output itself is tested: its
  distance ⟨(f̄ - f*)²⟩ to what is predicted over the noise of the mean is F, with degrees of
  freedom from the trace of Σ², Σ being the covariance of a chain's mean output. Dempster (1958,
  doi:10.1214/aoms/1177706437), Box (1954, doi:10.1214/aoms/1177728786).

Which it is depends on the noise and on the prediction, never on the residual.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theory.statistics import FEWEST_UNITS

Array = NDArray[np.float64]

OBSERVABLE = "mse_mean"
LINEAR = 32.0  # times the variance of the quadratic part: above that it does not count


@dataclass(frozen=True)
class MeanOutput:
    """What is known of each dataset; nan for theories without a mean output."""

    along: Array  # (cell, dataset, chain, theory): 2⟨f_c - y, g⟩
    gram: Array  # (cell, dataset, theory, theory): 2⟨g, g'⟩
    distance: Array  # (theory, cell, dataset): ⟨(f̄ - f*)²⟩
    variance: Array  # (cell, dataset): of the mean output, averaged over test points
    square: Array  # (cell, dataset): Tr Σ²/(C · points)² of C chains
    direct: Array  # (cell, dataset): variance of ⟨ε̄, g⟩ over ⟨g²⟩, along the measured error
    chains: NDArray[np.int64]  # (cell, dataset)

    @classmethod
    def unknown(cls, theories: int, cells: int, datasets: int, chains: int) -> "MeanOutput":
        """Of which nothing is known yet."""
        place = (cells, datasets)
        return cls(
            np.full((*place, chains, theories), np.nan),
            np.full((*place, theories, theories), np.nan),
            np.full((theories, *place), np.nan),
            *(np.full(place, np.nan) for _ in ("variance", "square", "direct")),
            chains=np.zeros(place, dtype=np.int64),
        )

    def put(self, place: tuple[int, int], errors: Array, predicted: Array) -> None:
        """f_c - y of the chains (chain, point), and f* - y of the theories (theory, point)."""
        count, points = errors.shape
        mean = errors.mean(0)
        self.chains[place] = count
        self.along[place][:count] = 2 / points * errors @ predicted.T
        self.gram[place] = 2 / points * predicted @ predicted.T
        self.distance[:, *place] = np.square(mean - predicted).mean(1)
        self.variance[place], self.square[place] = noise(errors)
        size = float(np.square(mean).mean())
        slopes = errors @ mean / points
        self.direct[place] = slopes.var(ddof=1) / count / size if size > 0 else np.nan

    def quadratic(self, cell: int, datasets: NDArray[np.intp]) -> float:
        """Variance of the quadratic part of `mse_mean`, added over datasets."""
        return float(quadratic_variance(self.square, self.chains)[cell, datasets].sum())

    def p_value(
        self, theory: int, cell: int, datasets: NDArray[np.intp], error: Array
    ) -> float | None:
        """p-value of the mean output over datasets; None where `mse_mean` itself can be tested.

        error is the predicted `mse_mean` of each.
        """
        direct = 4 * np.abs(error) * self.direct[cell, datasets]
        if direct.sum() >= LINEAR * self.quadratic(cell, datasets):
            return None
        distance = self.distance[theory, cell, datasets]
        chains = self.chains[cell, datasets]
        if not np.isfinite(distance).all():
            return None
        if chains.sum() < FEWEST_UNITS:
            return np.nan
        variance, square = self.variance[cell, datasets].sum(), self.square[cell, datasets]
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = np.maximum(variance**2 / square.sum(), 1)
            below = np.maximum(variance**2 / (square / (chains - 1)).sum(), 1)
            return float(stats.f.sf(distance.sum() / variance, degrees, below))


def noise(outputs: Array) -> tuple[float, float]:
    """Tr Σ/(C · points) and Tr Σ²/(C · points)² without bias, from outputs (chain, point).

    Tr Σ² is ν²/((ν + 2)(ν - 1)) (Tr S² - (Tr S)²/ν) with ν = C - 1, for chains that are Gaussian.
    Bai and Saranadasa (1996). The second is nan of two chains.
    """
    count, points = outputs.shape
    free = count - 1
    centred = outputs - outputs.mean(0)
    products = centred @ centred.T / (free * count * points)
    trace = float(products.trace())
    if free < 2:
        return trace, np.nan
    factor = free**2 / ((free + 2) * (free - 1))
    return trace, factor * (float(np.square(products).sum()) - trace**2 / free)


def quadratic_variance(square: Array | float, chains: NDArray[np.int64] | int) -> Array:
    """Variance of ⟨ε₁ε₂⟩, the mean over pairs of chains: 2 Tr Σ²/(C(C - 1) points²)."""
    return np.asarray(2 * np.asarray(square) * chains / np.maximum(np.asarray(chains) - 1, 1))
