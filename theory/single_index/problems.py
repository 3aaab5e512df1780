"""Single-index problems: a network of one hidden layer learns a function of one direction w*.

f(x) = Σ_i a_i φ(w_i·x) with N neurons, w ~ N(0, σ_w²/d), a ~ N(0, σ_a²/N), and y(x) a function of
w*·x with |w*| = 1, on n points x ~ N(0, I_d). In mean field, where the readouts are integrated out
and all neurons are alike, data enter through the discrepancy δ = y - f̄, which is a function of
w*·x: δ = Σ_k δ_k he_k(w*·x) with the normalised Hermite polynomials he_k = He_k/√k!. A neuron is
known by its order parameter q = w·w*, and its readout is

    a | q ~ N(√(σ_a²/N) m(q), σ_a²/N),   m(q) = √(d U) Σ_k δ_k g_k(q),   U = n² σ_a²/(T² d N)

with g_k = <he_k(w*·x) φ(w·x)>. Seroussi, Naveh and Ringel (2023, arXiv:2112.15383), Rubin, Seroussi
and Ringel (2024, arXiv:2310.03789).

Filters that are read at P patches have σ_a²/P in place of σ_a² (`theory.single_index.patch_index`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from theory.single_index.hermite_overlap import OVERLAPS, is_odd, relu_coefficient

Numbers = Tensor | float
Ridge = Literal["bare", "effective"]  # T itself, or T and the posterior variance of finite n


class Target(NamedTuple):
    """A sum of components g_j, each in the modes he_k, k in `orders`."""

    orders: tuple[int, ...]
    coefficients: Tensor  # <g_j he_k>, (..., component, mode)
    power: Tensor  # <g_j²>, (..., component): with the modes that are left out


class Problem(NamedTuple):
    """Single-index problems, one per cell, in physical values; tensors are float64 and (cells,)."""

    activation: str
    orders: tuple[int, ...]
    components: Tensor  # (cells, component, mode)
    power: Tensor  # (cells, component)
    dimension: Tensor  # d, of a patch where there are several
    width: Tensor  # N neurons, or channels
    weight_variance: Tensor  # σ_w²
    readout_variance: Tensor  # σ_a², divided by χ
    train: Tensor  # n
    temperature: Tensor  # T, divided by χ
    patches: Tensor  # P

    @property
    def target(self) -> Tensor:
        """y_k, (cells, mode)."""
        return self.components.sum(1)

    @property
    def prior_deviation(self) -> Tensor:
        """√(σ_w²/d), the unit in which q is given."""
        return torch.sqrt(self.weight_variance / self.dimension)

    @property
    def perpendicular(self) -> Tensor:
        """σ_w²(d - 1)/d, where |w|² - q² concentrates for large d."""
        return self.weight_variance * (self.dimension - 1) / self.dimension

    @property
    def kernel_variance(self) -> Tensor:
        """σ_a²/P, the prefactor of the kernel <φφ> of one patch."""
        return self.readout_variance / self.patches

    def coupling(self, temperature: Tensor) -> Tensor:
        """U = n² σ_a²/(P T² d N), the strength of feature learning."""
        force = (self.train / temperature).square() * self.kernel_variance
        return force / (self.dimension * self.width)

    def of(self, cells: Tensor) -> "Problem":
        """The problems of these cells (indices or a mask)."""
        chosen = {k: v[cells] for k, v in self._asdict().items() if isinstance(v, Tensor)}
        return self._replace(**chosen)


def problem(
    activation: str,
    target: Target,
    *,
    dimension: Numbers,
    width: Numbers,
    weight_variance: Numbers,
    readout_variance: Numbers,
    train: Numbers,
    temperature: Numbers,
    patches: Numbers = 1.0,
) -> Problem:
    """Cells of single-index problems; the values broadcast with the target to one row of cells.

    activation is "erf", "relu" or "linear". Values are physical: T and σ_a² after the division by
    χ. The dimension is that of a patch where there are several. Raises ValueError for values that
    are not positive, fewer than two dimensions, or relu with patches.
    """
    named = {
        "dimension": dimension,
        "width": width,
        "weight variance": weight_variance,
        "readout variance": readout_variance,
        "train": train,
        "temperature": temperature,
        "patches": patches,
    }
    values = [torch.as_tensor(value, dtype=torch.float64) for value in named.values()]
    *values, first = torch.broadcast_tensors(*values, target.power[..., 0])
    for name, value in zip(named, values, strict=True):
        if not bool(((value > 0) & value.isfinite()).all()):
            raise ValueError(f"{name} is {float(value.min()):g}; give a positive number")
    if bool((values[0] < 2).any()):
        raise ValueError(f"dimension is {float(values[0].min()):g}; give at least 2")
    if not is_odd(activation) and bool((values[-1] > 1).any()):
        raise ValueError(
            f"activation {activation} in {float(values[-1].max()):g} patches, which its even part "
            f"would couple; give one of {', '.join(filter(is_odd, OVERLAPS))}"
        )
    shape = first.shape
    components = target.coefficients.double().expand(*shape, *target.coefficients.shape[-2:])
    power = target.power.double().expand(*shape, target.power.shape[-1])
    return Problem(
        activation,
        target.orders,
        components.reshape(-1, *components.shape[-2:]),
        power.reshape(-1, power.shape[-1]),
        *(value.reshape(-1) for value in values),
    )


def coupled_orders(activation: str, highest: int) -> tuple[int, ...]:
    """The modes that a target up to He_highest couples to.

    Those of the target, and with odd activations 1 and 3, with relu 0, 1 and the even ones up to
    10. Higher modes are neither in the target nor, going as high powers of a small q, learned.
    """
    if is_odd(activation):
        return tuple(range(1, max(highest, 3) + 1, 2))
    modes = range(max(highest, 10) + 1)
    return tuple(k for k in modes if k <= max(highest, 1) or k % 2 == 0)


def hermite_target(coefficients: Mapping[int, Numbers], orders: Sequence[int]) -> Target:
    """y = Σ_k c_k He_k(w*·x), one component for each k in increasing order.

    The c_k broadcast. Raises ValueError if a k is not among the modes `orders`.
    """
    absent = sorted(set(coefficients) - set(orders))
    if absent:
        raise ValueError(f"target has He_{absent[0]}, the modes are {list(orders)}; add it")
    numbers = [torch.as_tensor(coefficients[k], dtype=torch.float64) for k in sorted(coefficients)]
    values = torch.stack(torch.broadcast_tensors(*numbers), -1)  # (..., component)
    norms = torch.tensor([math.sqrt(math.factorial(k)) for k in sorted(coefficients)]).double()
    place = torch.tensor([[float(k == order) for order in orders] for k in sorted(coefficients)])
    scaled = values * norms
    return Target(tuple(orders), scaled[..., None] * place.double(), scaled.square())


def abs_target(epsilon: Numbers, highest: int = 10) -> Target:
    """y = w*·x + ε(|w*·x| - √(2/π)), two components, in the modes 1 and 0, 2, 4, ..., highest.

    |z| - √(2/π) = √(2/π) Σ_m (-1)^(m+1) (2m - 3)!! he_2m(z)/√(2m)!, of variance 1 - 2/π.
    """
    size = torch.as_tensor(epsilon, dtype=torch.float64)
    modes = (0, 1, *range(2, highest + 1, 2))
    linear, even = torch.zeros(2, len(modes), dtype=torch.float64)
    linear[1] = 1
    for place, k in enumerate(modes[2:], start=2):  # |z| = 2 relu(z) - z
        even[place] = 2 * relu_coefficient(k) / math.sqrt(math.factorial(k))
    rows = torch.stack([linear.expand(*size.shape, -1), size[..., None] * even], -2)
    power = torch.stack([torch.ones_like(size), size.square() * (1 - 2 / math.pi)], -1)
    return Target(modes, rows, power)


def rescale(cells: Problem, beta: Numbers, alpha: Numbers) -> Problem:
    """N → βN, d → √β d, χ → √β χ, T → (α/β) T and n → αn, which leave U and λ/(T/n) as they are.

    λ is the eigenvalue of a linear function. For β → ∞ neurons become thermodynamic. Rubin,
    Seroussi and Ringel (2024).
    """
    root = torch.as_tensor(beta, dtype=torch.float64).sqrt()
    return cells._replace(
        width=cells.width * beta,
        dimension=cells.dimension * root,
        readout_variance=cells.readout_variance / root,
        temperature=cells.temperature * (alpha / root.square()),
        train=cells.train * alpha,
    )


def widen(cells: Problem, factor: Numbers) -> Problem:
    """N → cN and χ → cχ: a wider network at the same χ/N, of which all predictions are the same."""
    return cells._replace(
        width=cells.width * factor,
        readout_variance=cells.readout_variance / factor,
        temperature=cells.temperature / factor,
    )


def learnability(cells: Problem, discrepancy: Tensor) -> Tensor:
    """<f̄ g_j>/<g_j²> of every component with f̄_k = y_k - δ_k, (cells, component).

    NaN for a component that is zero.
    """
    learned = cells.target - discrepancy
    return torch.einsum("cjk,ck->cj", cells.components, learned) / cells.power
