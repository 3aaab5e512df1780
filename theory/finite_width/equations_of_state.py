"""Equations of state: Gaussian layers of a finite network that adapt to data, at any depth.

The weights of the first layer are N(0, Σ) and the pre-activations of every later one N(0, K_l), so
that they minimise the free energy

    Γ = Σ_l N_l KL(N(0, K_l) | N(0, Q_l)) + ½ yᵀ(K_f + T)⁻¹ y + ½ ln det(K_f + T) + (n/2) ln 2π,

with Q_l = σ_l² κ(K_{l-1}) + σ_b², K_f = σ_a² κ(K_L) and κ = E[φφ]. It is stationary at

    K_l⁻¹ = Q_l⁻¹ - B_l,  B_L = (σ_a²/N_L) d Tr[A κ(K_L)]/dK_L,  A = t tᵀ - (K_f + T)⁻¹,
    B_{l-1} = (N_l/N_{l-1}) σ_l² d Tr[C_l κ(K_{l-1})]/dK_{l-1},  C_l = Q_l⁻¹ K_l Q_l⁻¹ - Q_l⁻¹,

t = (K_f + T)⁻¹ y: the equations of Seroussi, Naveh and Ringel (2023, arXiv:2112.15383), with the
sign in A that makes them the minimum of Γ. With one hidden layer this is
`theory.finite_width.variational_gaussian`. The forces B_l are the unknowns, so that no kernel is
inverted without the ridge. Left out are fluctuations, of relative order degrees of freedom over
width in the mean.

In campaigns: `equations_of_state`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.records import Activation
from theory.kernels.variances import Variances
from theory.kernels.whitening import check_problem, weight_covariance, whitened
from theory.numerics.newton_krylov import Residual, Trusted, continued
from theory.numerics.symmetric import packed, unpacked
from theory.regression.exact import Posterior

TOLERANCE = 1e-9
POINTS = 512  # test points at a time
GROWTH = 3.0  # of the largest variance of a layer in one step of Newton's method


class Layer(NamedTuple):
    """A layer of prior covariance Q under the force B: K = Q (1 - B Q)⁻¹ = Q + Q C Q."""

    force: Tensor  # B
    covariance: Tensor  # K: of whitened weights in the first layer, of pre-activations in others
    shift: Tensor  # C = B + B K B = Q⁻¹ K Q⁻¹ - Q⁻¹
    divergence: float  # KL(N(0, K) | N(0, Q))
    seen: Tensor  # K of the pre-activations at the training points, (n, n)

    @property
    def most(self) -> float:
        """The largest variance of a pre-activation."""
        return float(self.seen.diagonal().max())


class Fit(NamedTuple):
    """Regression with the kernel of the outputs."""

    discrepancy: Tensor  # t = (K_f + T)⁻¹ y, (n,)
    resolvent: Tensor  # (K_f + T)⁻¹, (n, n)
    energy: float  # -ln N(y; 0, K_f + T)


@dataclass(frozen=True)
class Problem:
    """A network and its data; arguments as in `equations_of_state`."""

    x: Tensor
    y: Tensor
    ridge: float
    widths: tuple[float, ...]
    kernel_map: KernelMap
    variances: Variances

    def inputs(self, x: Tensor) -> Tensor:
        """Inputs in units where the weights of the first layer have prior N(0, 1)."""
        return whitened(x, self.variances.weights[0], self.variances.biases[0])

    def layers(
        self, forces: Sequence[Tensor], most: Sequence[float] | None = None
    ) -> list[Layer] | None:
        """All layers under their forces, or None where one of them has no Gaussian law.

        Also None where pre-activations of a layer have variances beyond its `most`.
        """
        inputs, found = self.inputs(self.x), []
        prior = torch.eye(inputs.shape[1]).to(inputs)
        for level, force in enumerate(forces, start=1):
            layer = layer_under(prior, force)
            if layer is None:
                return None
            if level == 1:
                layer = layer._replace(seen=inputs @ layer.covariance @ inputs.T)
            if most is not None and layer.most > most[level - 1]:
                return None
            found.append(layer)
            if level < len(forces):
                weights, biases = self.variances
                prior = weights[level] * self.kernel_map(layer.seen) + biases[level]
        return found

    def fit(self, layers: Sequence[Layer]) -> Fit:
        """Regression with K_f = σ_a² κ(K_L)."""
        total = self.variances.weights[-1] * self.kernel_map(layers[-1].seen)
        total.diagonal().add_(self.ridge)
        factor = torch.linalg.cholesky(total)
        t = torch.cholesky_solve(self.y[:, None], factor)[:, 0]
        constant = len(self.y) * math.log(2 * math.pi) / 2
        energy = self.y @ t / 2 + factor.diagonal().log().sum() + constant
        return Fit(t, torch.cholesky_inverse(factor), float(energy))

    def forces(self, layers: Sequence[Layer], strength: float) -> list[Tensor]:
        """B_1, ..., B_L by their equations, in a network of widths N_l / strength."""
        fit = self.fit(layers)
        pull = torch.outer(fit.discrepancy, fit.discrepancy) - fit.resolvent
        ratio, found = strength / self.widths[-1], []
        for level in range(len(layers), 0, -1):
            force = self.kernel_map.pullback(layers[level - 1].seen, pull)
            found.append(force * (ratio * self.variances.weights[level]))
            if level > 1:
                pull, ratio = (
                    layers[level - 1].shift,
                    self.widths[level - 1] / self.widths[level - 2],
                )
        inputs = self.inputs(self.x)
        return [inputs.T @ found[-1] @ inputs, *found[-2::-1]]

    def free_energy(self, layers: Sequence[Layer]) -> float:
        """Γ."""
        pairs = zip(self.widths, layers, strict=True)
        return self.fit(layers).energy + sum(width * layer.divergence for width, layer in pairs)


class Saddle(NamedTuple):
    """A solution of the equations of state."""

    problem: Problem
    layers: tuple[Layer, ...]
    discrepancy: Tensor  # t, (n,)
    resolvent: Tensor  # (K_f + T)⁻¹, (n, n)
    weight_covariance: Tensor  # Σ of the first layer's weights, (d, d)
    free_energy: float  # Γ, of the solutions of one problem the lowest is to be trusted
    residual: float  # of the forces, in units of the inverse prior variance

    def covariances(self, x: Tensor) -> tuple[Tensor, ...]:
        """K_1, ..., K_L and K_f at the points x (m, d): (m, m) each.

        Of single pre-activations of every hidden layer, then of the outputs at the given law of the
        hidden weights, before the labels are seen by the readout.
        """
        return tuple(own for own, _ in self._at(x))

    def readout_norm(self) -> float:
        """⟨|a|²⟩ = σ_a² + Tr[A K_f] σ_a²/N_L, at given laws of the hidden weights."""
        t, ridge = self.discrepancy, self.problem.ridge
        fitted = self.problem.y @ t - ridge * t.square().sum()  # tᵀ K_f t
        freedom = len(t) - ridge * self.resolvent.trace()  # Tr K_f (K_f + T)⁻¹
        growth = float(fitted - freedom) / self.problem.widths[-1]
        return self.problem.variances.weights[-1] * (1 + growth)

    def prediction(self, x: Tensor) -> Posterior:
        """Mean k*ᵀ t and variance k** - k*ᵀ(K_f + T)⁻¹ k* at the points x (m, d).

        The variance is that at given laws of the hidden weights. What their fluctuations add is of
        order 1/N; in mean-field scaling the rest is of order 1/χ, no larger if χ is about N.
        """
        parts = [self._at(part)[-1] for part in x.split(POINTS)]
        cross = torch.cat([cross for _, cross in parts])
        spread = torch.cat([own.diagonal() for own, _ in parts])
        explained = ((cross @ self.resolvent) * cross).sum(1)
        return Posterior(cross @ self.discrepancy, (spread - explained).clamp_min(0))

    def _at(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Covariances (m, m) among the points and (m, n) with the training points, all layers."""
        problem, kernel_map = self.problem, self.problem.kernel_map
        points, train = problem.inputs(x), problem.inputs(problem.x)
        weights = self.layers[0].covariance
        own, cross = points @ weights @ points.T, points @ weights @ train.T
        found = [(own, cross)]
        for level in range(1, len(self.layers) + 1):
            variance, known = own.diagonal(), self.layers[level - 1].seen.diagonal()
            scale = problem.variances.weights[level]
            own, cross = (
                scale * kernel_map(own),
                scale * kernel_map.cross(variance, cross, known),
            )
            if level < len(self.layers):
                layer, offset = self.layers[level], problem.variances.biases[level]
                own, prior = own + offset, cross + offset
                cross = prior + prior @ layer.force @ layer.covariance
                own = own + prior @ layer.shift @ prior.T
            found.append((own, cross))
        return found


def equations_of_state(
    x: Tensor,
    y: Tensor,
    ridge: float,
    widths: Sequence[float],
    *,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    start: Saddle | None = None,
) -> Saddle:
    """Solve the equations of state of a network of one output on its training data.

    x is (n, d), y (n,); `widths` are N_1, ..., N_L of the hidden layers, `weight_variance` and
    `bias_variance` as in `theory.kernels.fully_connected`. Ridge T and the readout's variance are
    physical: in mean-field scaling both divided by χ. The search starts from the infinitely wide
    network, or from the solution of a like problem, whose branch it follows; where Newton's method
    stalls the widths are lowered to theirs step by step. Raises ValueError for arguments that do
    not fit and where no solution is found.
    """
    variances = check_problem(x, y, ridge, widths, weight_variance, bias_variance)
    problem = Problem(
        x.double(),
        y.double(),
        float(ridge),
        tuple(float(width) for width in widths),
        KernelMap(activation),
        variances,
    )
    units = _Units.of(problem)
    forces = [problem.y.new_zeros(size, size) for size in units.sizes]
    if start is not None:
        forces = [layer.force for layer in start.layers]
    vector = units.vector(forces)
    trusted = _trusted(problem, units)
    root = continued(
        lambda strength: _residual(problem, units, strength), vector, TOLERANCE, trusted
    )
    layers = problem.layers(units.forces(root.position))
    if layers is None or not root.residual <= TOLERANCE:
        raise ValueError(
            f"equations of state at widths {problem.widths} are left with a residual of "
            f"{root.residual:.1e}, wanted {TOLERANCE:.0e}; follow their solution from larger "
            "widths or a higher temperature"
        )
    fit = problem.fit(layers)
    covariance = weight_covariance(layers[0].covariance, variances.weights[0], x.shape[1])
    energy = problem.free_energy(layers)
    return Saddle(
        problem, tuple(layers), fit.discrepancy, fit.resolvent, covariance, energy, root.residual
    )


def layer_under(prior: Tensor, force: Tensor) -> Layer | None:
    """K = F (1 - FᵀBF)⁻¹ Fᵀ with F Fᵀ = Q, or None where 1 - FᵀBF is not positive definite."""
    identity = torch.eye(len(prior)).to(prior)
    rounding = len(prior) * torch.finfo(torch.float64).eps * float(prior.diagonal().max())
    root = torch.linalg.cholesky(prior + rounding * identity)
    factor, failed = torch.linalg.cholesky_ex(identity - root.T @ force @ root)
    if int(failed):
        return None
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    half = inverse @ root.T
    covariance = half.T @ half
    trace = inverse.square().sum() - len(prior)
    divergence = float(trace / 2 + factor.diagonal().log().sum())
    return Layer(force, covariance, force + force @ covariance @ force, divergence, seen=covariance)


def _residual(problem: Problem, units: "_Units", strength: float) -> Residual:
    def residual(vector: Tensor) -> Tensor | None:
        layers = problem.layers(units.forces(vector))
        if layers is None:
            return None
        return vector - units.vector(problem.forces(layers, strength))

    return residual


def _trusted(problem: Problem, units: "_Units") -> Trusted:
    """Whether no variance grows too much: near the end of the domain they are without bounds."""

    def trusted(before: Tensor) -> Callable[[Tensor], bool]:
        known = problem.layers(units.forces(before))
        assert known is not None  # it was reached
        most = [GROWTH * layer.most for layer in known]
        return lambda after: problem.layers(units.forces(after), most) is not None

    return trusted


class _Units(NamedTuple):
    """Forces as one vector, each in units of the inverse of its layer's mean prior variance."""

    sizes: tuple[int, ...]
    variances: tuple[float, ...]

    @classmethod
    def of(cls, problem: Problem) -> "_Units":
        n, d = problem.inputs(problem.x).shape
        sizes = (d, *[n] * (len(problem.widths) - 1))
        free = problem.layers([problem.y.new_zeros(size, size) for size in sizes])
        assert free is not None  # nothing pulls
        return cls(sizes, tuple(float(layer.covariance.diagonal().mean()) for layer in free))

    def vector(self, forces: Sequence[Tensor]) -> Tensor:
        pairs = zip(forces, self.variances, strict=True)
        return packed([force * variance for force, variance in pairs])

    def forces(self, vector: Tensor) -> list[Tensor]:
        pairs = zip(unpacked(vector, self.sizes), self.variances, strict=True)
        return [matrix / variance for matrix, variance in pairs]
