"""The kernel of infinitely wide networks whose weights are uniform instead of Gaussian.

In few dimensions w·x is not Gaussian then, though the network's output is: the first layer needs an
expectation over the cube of the weights. From the second on, pre-activations are Gaussian again.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.large_variance import Elementwise
from theory.activations.records import Activation, function_of
from theory.kernels.variances import layer_variances
from theory.signal.gaussian import legendre

MAX_DIMENSION = 3  # of inputs, and one for biases
ORDERS = (16, 32, 64, 128)  # nodes in each dimension
MAX_NODES = 1 << 18
CONVERGED, REFUSED = 1e-10, 1e-4  # change of the kernel by twice the nodes, in units of the largest
ROOM = 1 << 22  # numbers at a time


def uniform_nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
) -> Tensor:
    """Kernel (n1, n2) of the prior with uniform weights and biases, of the same variances.

    w_i is uniform between ±√(3σ²/d) and b between ±√(3σ_b²), so that K_1 = σ² E[φ(u)φ(v)] with
    u = w·x + b and v = w·x' + b by Gauss and Legendre's rule in each of them; then
    K_{l+1} = σ² E[φφ] over Gaussian pre-activations of covariance σ_b² + K_l. Arguments as in
    `theory.kernels.nngp`, x float64.

    Errors are below 1e-9 of the largest element for φ of scale 1 on the cube, and 1e-4 with kinks.
    Raises ValueError for more than 3 dimensions (a bias in the first layer is one), and where twice
    the nodes change the kernel by more than 1e-4.
    """
    weights, biases = layer_variances(weight_variance, bias_variance, depth)
    points = x1 if x2 is None else torch.cat([x1, x2])
    if points.ndim != 2 or points.dtype != torch.float64:
        raise ValueError(
            f"inputs are {tuple(points.shape)} of {points.dtype}; give (points, dimension) float64"
        )
    scales = [math.sqrt(3 * weights[0] / points.shape[1])] * points.shape[1]
    if biases[0] > 0:
        scales.append(math.sqrt(3 * biases[0]))
        points = torch.cat([points, torch.ones_like(points[:, :1])], 1)
    if len(scales) > MAX_DIMENSION:
        raise ValueError(
            f"inputs and biases have {len(scales)} dimensions, and the kernel of uniform weights "
            f"is known up to {MAX_DIMENSION}; take Gaussian weights"
        )
    kernel = weights[1] * _first_layer(activation, points * points.new_tensor(scales))
    kernel_map = KernelMap(activation)
    for weight, bias in zip(weights[2:], biases[1:], strict=True):
        kernel = weight * kernel_map(bias + kernel)
    return kernel if x2 is None else kernel[: len(x1), len(x1) :]


def uniform_pre_activation_kernels(
    x: Tensor,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
) -> tuple[Tensor, ...]:
    """Covariances (n, n) of the pre-activations of every hidden layer, of infinite width.

    Of the first σ² x·x'/d + σ_b², of those after it σ_b² + K_l with the K_l of `uniform_nngp`,
    whose arguments and errors these are; the variance of the readout does not enter.
    """
    weights, biases = layer_variances(weight_variance, bias_variance, depth)
    first = weights[0] / x.shape[1] * x @ x.mT + biases[0]
    return (
        first,
        *(
            biases[layer]
            + uniform_nngp(
                x,
                depth=layer,
                activation=activation,
                weight_variance=weights[: layer + 1],
                bias_variance=biases[:layer],
            )
            for layer in range(1, depth)
        ),
    )


def _first_layer(activation: Activation, points: Tensor) -> Tensor:
    """E[φ(ω·x) φ(ω·x')] over ω uniform in [-1, 1]^d, (n, n), from x (n, d)."""
    function = function_of(activation)
    before: Tensor | None = None
    change = math.inf
    for order in ORDERS:
        if order ** points.shape[1] > MAX_NODES:
            break
        kernel = _by_nodes(function, points, order)
        if not bool(kernel.isfinite().all()):
            raise ValueError("the activation is not finite on the cube of the weights")
        if before is not None:
            change = float((kernel - before).abs().max() / kernel.abs().max())
            if change <= CONVERGED:
                return kernel
        before = kernel
    if change > REFUSED or before is None:
        raise ValueError(
            f"the kernel of uniform weights is uncertain by {change:.1g}; scale the inputs or the "
            "weights down, or give a smoother activation"
        )
    return before


def _by_nodes(function: Elementwise, points: Tensor, order: int) -> Tensor:
    dimension = points.shape[1]
    x, w = legendre(order)
    cube = torch.cartesian_prod(*[2 * x - 1] * dimension).reshape(-1, dimension)
    weight = torch.cartesian_prod(*[w] * dimension).reshape(-1, dimension).prod(1)
    kernel = points.new_zeros(len(points), len(points))
    some = max(1, ROOM // len(points))
    for omega, share in zip(cube.split(some), weight.split(some), strict=True):
        features = function(points @ omega.T) * share.sqrt()
        kernel += features @ features.T
    return kernel
