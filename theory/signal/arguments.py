"""What the functions of this package take: numbers or tensors, which broadcast, in float64."""

import torch
from torch import Tensor

Number = float | Tensor


def broadcast(**numbers: Number) -> list[Tensor]:
    """In float64 and of one shape.

    Raises ValueError where one is no number or not finite, or they do not fit.
    """
    tensors = [_tensor(name, number) for name, number in numbers.items()]
    for name, tensor in zip(numbers, tensors, strict=True):
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has elements that are not finite numbers")
    try:
        return list(torch.broadcast_tensors(*tensors))
    except RuntimeError:
        shapes = ", ".join(
            f"{name} {tuple(tensor.shape)}" for name, tensor in zip(numbers, tensors, strict=True)
        )
        raise ValueError(f"shapes do not broadcast: {shapes}") from None


def _tensor(name: str, number: object) -> Tensor:
    try:
        return torch.as_tensor(number, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is {number!r}; give a number or a tensor of them") from None


def check_positive(**numbers: Tensor) -> None:
    """Raise ValueError unless all are above zero."""
    for name, tensor in numbers.items():
        if bool((tensor <= 0).any()):
            raise ValueError(f"{name} is {float(tensor.min()):.3g}; give positive numbers")


def check_not_negative(**numbers: Tensor) -> None:
    """Raise ValueError where one is below zero."""
    for name, tensor in numbers.items():
        if bool((tensor < 0).any()):
            raise ValueError(f"{name} is {float(tensor.min()):.3g}; give numbers from 0 on")


def check_depth(depth: int) -> None:
    """Raise ValueError unless it is a whole number from 1 on."""
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise ValueError(f"depth is {depth!r}; give a number of layers, at least 1")
