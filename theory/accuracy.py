"""How often a prediction names the right class, where targets are classes.

The class that is predicted is that of the nearest target: the sign where targets are ±1, the
largest output where they are one-hot.
"""

import math

import torch
from torch import Tensor

FARTHEST, STEP = 9.0, 0.125  # of the nodes of a standard normal


def right_class(predicted: Tensor, targets: Tensor, classes: Tensor) -> Tensor:
    """Whether a prediction is nearest to the target of the point's own class, (points,).

    predicted and targets are (points, outputs), and classes (class, outputs) has the targets that
    there are.
    """
    return _nearest(predicted, classes) == _nearest(targets, classes)


def _nearest(values: Tensor, classes: Tensor) -> Tensor:
    if classes.shape[1] == 1:  # by the middles between targets, without a distance for each
        order = classes[:, 0].argsort()
        values_of = classes[order, 0]
        middles = (values_of[1:] + values_of[:-1]) / 2
        return order[torch.bucketize(values[:, 0].contiguous(), middles)]
    return torch.cdist(values, classes).argmin(-1)


def gaussian_accuracy(mean: Tensor, variance: Tensor, targets: Tensor, classes: Tensor) -> Tensor:
    """The same of one draw of a Gaussian output at each point, on the average: a number.

    Φ((b - m)/σ) - Φ((a - m)/σ) is the probability that an output lies between a and b, the middles
    between the target of a point and its neighbours. All are (points,), and classes (class,).
    """
    values = classes.sort().values
    ends = torch.full((1,), math.inf, dtype=values.dtype)
    edges = torch.cat([-ends, (values[1:] + values[:-1]) / 2, ends])
    own = (targets[:, None] - values).abs().argmin(-1)
    deviation = variance.clamp_min(0).sqrt()
    high, low = ((edge - mean) / deviation for edge in (edges[own + 1], edges[own]))
    return (torch.special.ndtr(high) - torch.special.ndtr(low)).mean()


def largest_accuracy(mean: Tensor, variance: Tensor, own: Tensor) -> Tensor:
    """The same of several outputs, one for each class, of which the largest names it: a number.

    Outputs are independent with one variance at each point, and that of the class c itself is
    largest with probability ∫ dz φ(z) Π_{j≠c} Φ(z + (m_c - m_j)/σ), by the trapezoidal rule. mean
    is (points, class), variance (points,), and own (points,) the place of the point's class.
    """
    deviation = variance.sqrt().clamp_min(torch.finfo(variance.dtype).tiny)
    gap = (mean.gather(1, own[:, None]) - mean) / deviation[:, None]
    gap.scatter_(1, own[:, None], math.inf)
    total = torch.zeros_like(variance)
    for z in torch.arange(-FARTHEST, FARTHEST + STEP, STEP, dtype=variance.dtype):
        total += torch.exp(-z.square() / 2) * torch.special.ndtr(z + gap).prod(1)
    return total.mean() * STEP / math.sqrt(2 * math.pi)
