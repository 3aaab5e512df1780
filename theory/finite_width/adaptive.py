"""The adaptive kernel of a network of one hidden layer on its training data, n × n.

The weights of one neuron have the law e^{-S}, which knows the others by two averages, the
discrepancy t (n,) of the labels and their response G (n, n). With s = σ_a²/N and φ_μ = φ(w·x_μ),

    S(w) = d|w|²/2σ_w² + ½ ln(1 + l) - (s/2) τ²/(1 + l),    τ = t·φ,  l = s φᵀGφ,

    y = (T + Q̃) t,   G⁻¹ = T + Q̃ + D,   Q̃ = σ_a² ⟨φφᵀ/(1 + l)⟩,   D = s σ_a² Cov[φ τ/(1 + l)].

This is the cavity: S is exact for one neuron with t and M⁻¹ of the others, M = s Σ_j φ_j φ_jᵀ + T,
of which M⁻¹ has been averaged, and t over its fluctuations R D G, which turn R = ⟨M⁻¹⟩ into G. It
holds where there are as many degrees of freedom as neurons. To first order in l it is the action
with the force A = t tᵀ - G on φφᵀ, and for l = 0 the mean field of Seroussi, Naveh and Ringel
(2023, arXiv:2112.15383) and of Rubin, Seroussi and Ringel (2024, arXiv:2310.03789). D is the
response of the hidden weights, as large as Q̃ where they adapt: without it the predictive variance
comes out too small.

In campaigns: `adaptive`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.neurons import averaged, effective, sample
from theory.activations.records import Activation, function_of
from theory.finite_width.cavity import TOLERANCE, Force, Law, Problem, solve
from theory.kernels.whitening import check_problem, weight_covariance, whitened
from theory.regression.exact import Posterior
from theory.words import check_word

HEAVIEST = 0.003  # probability of one draw: above it, its force on itself holds it up
POINTS = 512  # test points at a time


class AdaptiveKernel(NamedTuple):
    """A solution: the law of the neurons, and all that follows from it."""

    problem: Problem
    law: Law
    discrepancy: Tensor  # t, (n,): the mean of (y - f)/T at the training points
    weights: Tensor  # draws of w, (draws, d), with
    probability: Tensor  # their weights under e^{-S}, (draws,), which add up to one
    weight_covariance: Tensor  # ⟨w wᵀ⟩, (d, d)
    effective_draws: float
    residual: float  # of ln l, and of t in units of the labels
    whitening: Callable[[Tensor], Tensor]  # x to x̂

    def covariances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """⟨h hᵀ⟩ of a neuron's pre-activations and σ_a² ⟨φφᵀ⟩ at the points x (m, d): (m, m)."""
        points, law = self.whitening(x), self.law
        drawn = sample(law.neurons, points, self.problem.activation)
        fields = points @ law.neurons.weights.T
        exact = points @ law.neurons.covariance @ points.T
        reference = law.neurons.reference
        return (
            averaged(fields, fields, exact, law.weight, reference),
            self.problem.readout
            * averaged(drawn.features, drawn.features, drawn.kernel, law.weight, reference),
        )

    def pre_activations(self, x: Tensor, along: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """The law of z = Σ_μ v_μ h(x_μ) of a neuron: its variance (k,) and histogram (k, bins).

        x is (m, d), along (k, m) has the vectors v in rows; the outermost of the bins between the
        edges (bins + 1,) are open to infinity. A bin counts the draws that are in it against those
        expected of N(0, Σ), and is never below zero.
        """
        points, neurons = along @ self.whitening(x), self.law.neurons
        z = points @ neurons.weights.T
        gaussian = ((points @ neurons.covariance) * points).sum(1)
        excess = self.probability - neurons.reference
        inner = edges[1:-1].contiguous()
        below = torch.special.ndtr(inner / gaussian.sqrt()[:, None])
        ends = below.new_zeros(len(below), 1)
        expected = torch.cat([ends, below, ends + 1], 1).diff(dim=1)
        counts = torch.zeros_like(expected)
        counts.scatter_add_(1, torch.bucketize(z, inner), excess.expand_as(z))
        histogram = (expected + counts).clamp_min(0)
        variance = gaussian + z.square() @ excess - (z @ excess).square()
        return variance, histogram / histogram.sum(1, keepdim=True)

    def readout_norm(self) -> float:
        """⟨|a|²⟩, where a neuron's readout has mean s τ/(1 + l) and variance s/(1 + l)."""
        return self.problem.readout * float(self.law.responding.sum())

    def prediction(self, x: Tensor) -> Posterior:
        """Mean and variance of f at the points x (m, d).

        Mean q*ᵀ t; variance c** - c*ᵀ G c* with the rows q* of Q̃ and c* of Q̃ + D: of readout and
        hidden weights.
        """
        parts = [self._predicted(self.whitening(part)) for part in x.split(POINTS)]
        mean = torch.cat([part.mean for part in parts])
        return Posterior(mean, torch.cat([part.variance for part in parts]))

    def _predicted(self, points: Tensor) -> Posterior:
        law, readout, kernel_map = (
            self.law,
            self.problem.readout,
            KernelMap(self.problem.activation),
        )
        features = function_of(self.problem.activation)(points @ law.neurons.weights.T)
        seen = points @ law.neurons.covariance
        variance = (seen * points).sum(1)
        cross = kernel_map.cross(variance, seen @ self.problem.inputs.T, law.points.variance)
        reference = law.neurons.reference
        kernel = averaged(features, law.points.features, cross, law.damped, reference)
        matrix, mean = law.spread(features, cross)
        total = law.responding.sum()
        own = total * kernel_map.diagonal(variance) - law.coupling * mean.square()
        own = own + features.square() @ (law.responding - total * reference)
        explained = ((matrix @ law.response) * matrix).sum(1) * readout
        spread = readout * (own - explained)
        return Posterior(readout * (kernel @ self.discrepancy), spread.clamp_min(0))


def adaptive_kernel(
    x: Tensor,
    y: Tensor,
    ridge: float,
    width: float,
    normals: Tensor,
    *,
    activation: Activation,
    weight_variance: tuple[float, float],
    bias_variance: float | Sequence[float],
    force: Force,
) -> AdaptiveKernel:
    """Solve for the law of a neuron of a network of one hidden layer and one output.

    x is (n, d), y (n,); weight_variance is (σ_w², σ_a²). Ridge T and σ_a² are physical: in
    mean-field scaling both divided by χ. Averages are over fixed standard normals (draws, d), or
    (draws, d + 1) with biases: the same normals, the same result; their error falls with the
    effective draws, faster for `theory.activations.neurons.quasi_normals`. The width is lowered
    from infinity in as many steps as the draws need to follow the law. Raises ValueError for
    arguments that do not fit, where the equations are not solved, and where too few draws count.
    """
    check_word("force", force, get_args(Force))
    weights, biases = check_problem(x, y, ridge, (width,), weight_variance, bias_variance)

    def whitening(points: Tensor) -> Tensor:
        return whitened(points, weights[0], biases[0])

    inputs = whitening(x)
    if normals.ndim != 2 or normals.shape[1] != inputs.shape[1]:
        raise ValueError(
            f"normals are {tuple(normals.shape)}; give (draws, {inputs.shape[1]}), "
            "one for each input and one more with biases"
        )
    problem = Problem(inputs, y.double(), float(ridge), float(width), activation, weights[1], force)
    law = solve(problem, normals.double())
    draws = effective(law.weight)
    _check_solved(law, problem)
    drawn, dimension = law.neurons, x.shape[1]
    moments = averaged(
        drawn.weights.T, drawn.weights.T, drawn.covariance, law.weight, drawn.reference
    )
    scale = (weights[0] / dimension) ** 0.5
    return AdaptiveKernel(
        problem,
        law,
        law.discrepancy,
        drawn.weights[:, :dimension] * scale,
        law.weight,
        weight_covariance(moments, weights[0], dimension),
        draws,
        law.residual,
        whitening,
    )


def _check_solved(law: Law, problem: Problem) -> None:
    heaviest = float(law.weight.max())
    if law.residual <= TOLERANCE and heaviest <= HEAVIEST:
        return
    raise ValueError(
        f"adaptive kernel at width {problem.width:g} is left with a residual of "
        f"{law.residual:.1e}, wanted {TOLERANCE:.0e}, and one of its draws has {heaviest:.1%} of "
        f"the law, wanted {HEAVIEST:.1%}; give more normals, a larger width or a larger ridge"
    )
