"""Kernel scaling with several outputs: the scale of the kernel is a matrix between the outputs.

With P outputs and hidden layers of widths N_1, ..., N_L the outputs have the covariance Q ⊗ K,
where K is the kernel of infinite width and Q (P, P) the least of

    Σ_l N_l [Tr R_l - ln det R_l] + ln det(T + Q ⊗ K) + yᵀ(T + Q ⊗ K)⁻¹ y,   Q = Π_l R_l.

At the minimum the R_l commute, R_l = 1 - X/N_l with one symmetric X, and X = Q^½ E Q^½, where E is
the derivative of the last two terms in Q. For one output and equal widths it is the scale of
`theory.finite_width.kernel_scaling`, with a width for each layer otherwise. For activations that
are odd functions. Li and Sompolinsky (2021, arXiv:2012.04030), Pacelli et al. (2023,
arXiv:2209.04882).

In campaigns: `kernel_scaling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from theory.finite_width.kernel_scaling import kernel_scale
from theory.numerics.newton_krylov import Residual, Root, continued, find_root
from theory.numerics.symmetric import packed, unpacked

TOLERANCE = 1e-10


class MatrixScale(NamedTuple):
    """The scale of the kernel."""

    scale: Tensor  # Q, (outputs, outputs)
    layers: Tensor  # R_l, (layers, outputs, outputs)
    action: float  # its minimum
    residual: float  # of X, over the least width


class MatrixPosterior(NamedTuple):
    """Mean and covariance of the outputs at each test point."""

    mean: Tensor  # (test, outputs)
    covariance: Tensor  # (test, outputs, outputs)


@dataclass(frozen=True)
class _Action:
    """The action in the eigenbasis of the kernel."""

    eigenvalues: Tensor  # λ_k, (n,)
    targets: Tensor  # v_k·y, (n, outputs)
    ridge: float
    widths: Tensor  # (layers,)

    def ratios(self, shift: Tensor) -> Tensor:
        """Eigenvalues of R_l from those of X, (layers, outputs)."""
        return 1 - shift / self.widths[:, None]

    def value(self, x: Tensor) -> float:
        """The action at X."""
        shift, vectors = torch.linalg.eigh(x)
        ratios = self.ratios(shift)
        total = self.ridge + self.eigenvalues[:, None] * ratios.prod(0)
        data = total.log() + (self.targets @ vectors).square() / total
        return float((self.widths[:, None] * (ratios - ratios.log())).sum() + data.sum())

    def pull(self, x: Tensor) -> Tensor | None:
        """Q^½ E Q^½, or None where Q is not positive definite."""
        shift, vectors = torch.linalg.eigh(x)
        ratios = self.ratios(shift)
        if not bool((ratios > 0).all()):
            return None
        scale = ratios.prod(0)
        total = self.ridge + self.eigenvalues[:, None] * scale
        signal = (self.eigenvalues[:, None] * scale).sqrt()
        fitted = signal * (self.targets @ vectors) / total
        inner = (signal.square() / total).sum(0).diag() - fitted.T @ fitted
        return vectors @ inner @ vectors.T


def matrix_scale(kernel: Tensor, y: Tensor, ridge: float, widths: Sequence[float]) -> MatrixScale:
    """The lowest of the minima of the action that are reached from two starts.

    kernel is that of the training points at infinite width, with the variance of the readout,
    (n, n), y is (n, outputs), ridge T > 0 physical, and the widths are those of the hidden layers.
    One start is infinite width, the other has each principal direction of the targets at the global
    minimum that it has alone. Raises ValueError for arguments that do not fit and where no minimum
    is found.
    """
    action = _action(kernel, y, ridge, widths)
    least, outputs = float(action.widths.min()), y.shape[1]

    def residual_at(strength: float) -> Residual:
        def residual(vector: Tensor) -> Tensor | None:
            (x,) = unpacked(vector * least, [outputs])
            pull = action.pull(x)
            return None if pull is None else vector - packed([pull]) * (strength / least)

        return residual

    start = packed([_apart(action, kernel, y) / least])
    found = [
        continued(residual_at, torch.zeros_like(start), TOLERANCE),
        find_root(residual_at(1.0), start, TOLERANCE),
    ]
    solved = [root for root in found if root.residual <= TOLERANCE]
    if not solved:
        raise ValueError(
            f"matrix of scales at widths {tuple(widths)} is left with a residual of "
            f"{min(root.residual for root in found):.1e}, wanted {TOLERANCE:.0e}; raise the ridge "
            "or the widths"
        )

    def order_parameter(root: Root) -> Tensor:
        return unpacked(root.position * least, [outputs])[0]

    best = min(solved, key=lambda root: action.value(order_parameter(root)))
    shift, vectors = torch.linalg.eigh(order_parameter(best))
    ratios = action.ratios(shift)
    layers = (vectors * ratios[:, None, :]) @ vectors.T
    scale = (vectors * ratios.prod(0)) @ vectors.T
    return MatrixScale(scale, layers, action.value(order_parameter(best)), best.residual)


def matrix_prediction(
    kernel_train: Tensor,
    kernel_cross: Tensor,
    kernel_test_diagonal: Tensor,
    y: Tensor,
    ridge: float,
    scale: Tensor,
) -> MatrixPosterior:
    """Regression with the covariance Q ⊗ K, kernels as in `theory.regression.exact.posterior`.

    In the eigenbasis of Q the outputs are independent, output i with the kernel q_i K.
    """
    values, vectors = torch.linalg.eigh(scale)
    spectrum, basis = torch.linalg.eigh(kernel_train.double())
    cross = kernel_cross.double() @ basis
    gain = values / (spectrum.clamp_min(0)[:, None] * values + ridge)  # (n, outputs)
    mean = cross @ (gain * (basis.T @ y.double() @ vectors))
    variance = values * (kernel_test_diagonal.double()[:, None] - cross.square() @ gain)
    covariance = (vectors * variance.clamp_min(0)[:, None, :]) @ vectors.T
    return MatrixPosterior(mean @ vectors.T, covariance)


def _action(kernel: Tensor, y: Tensor, ridge: float, widths: Sequence[float]) -> _Action:
    if y.ndim != 2 or kernel.shape != (len(y), len(y)):
        raise ValueError(
            f"kernel is {tuple(kernel.shape)} and targets {tuple(y.shape)}; "
            "give (n, n) and (n, outputs)"
        )
    if not 0 < ridge < float("inf"):
        raise ValueError(f"ridge is {ridge}; give a positive number")
    if not widths or not min(widths) >= y.shape[1]:
        raise ValueError(
            f"widths are {tuple(widths)} for {y.shape[1]} outputs; give one of each hidden layer, "
            "none below the number of outputs"
        )
    values, vectors = torch.linalg.eigh(kernel.double())
    sizes = torch.tensor([float(width) for width in widths]).to(values)
    return _Action(values.clamp_min(0), vectors.T @ y.double(), float(ridge), sizes)


def _apart(action: _Action, kernel: Tensor, y: Tensor) -> Tensor:
    """X of principal directions of the targets that do not see each other, at the mean width."""
    depth = len(action.widths)
    width = depth / (1 / action.widths).sum()
    _, vectors = torch.linalg.eigh(y.double().T @ y.double())
    shifts = [
        width
        * (
            1
            - kernel_scale(kernel, column, action.ridge, width, depth=depth).scale[0] ** (1 / depth)
        )
        for column in (y.double() @ vectors).T
    ]
    shift = torch.stack(shifts).clamp_max(0.99 * float(action.widths.min()))
    return (vectors * shift) @ vectors.T
