"""What a floating-point type has room for, and the errors of what is beyond it."""

from collections.abc import Iterable

import torch
from torch import Tensor

# Variances whose covariances single precision holds. Its rounding of a correlation near 1 reaches
# E[φφ] magnified by √k where φ has one scale, and by k where it has no end, as sin.
LEAST_NUMBER, LARGEST_NUMBER = 1e-30, 1e30
ONE_SCALE, ANY_SCALE = 1e3, 30.0


def in_range(value: Tensor, *variances: Tensor) -> Tensor:
    """What was computed of these variances, if all of it is finite; else raises ValueError.

    What comes of variances that are unknown, NaN, is unknown and no matter of range.
    """
    unknown = any(bool(variance.isnan().any()) for variance in variances)
    if not unknown and not bool(value.isfinite().all()):
        largest = max(float(variance.max()) for variance in variances)
        raise ValueError(
            f"a pre-activation has variance {largest:.3g}, and {_end(value.dtype)}, before an "
            f"expectation of the activation; {_remedy(value.dtype)}"
        )
    return value


def check_diagonals(diagonals: Iterable[Tensor], dtype: torch.dtype) -> None:
    """Raise ValueError unless a type holds kernels, whose largest elements are on the diagonal."""
    largest = max((float(some.max()) for some in diagonals if some.numel()), default=0.0)
    if not largest <= torch.finfo(dtype).max:
        raise ValueError(f"a kernel reaches {largest:.3g}, and {_end(dtype)}; {_remedy(dtype)}")


def single_does(variances: Iterable[Tensor], most: float) -> bool:
    """Whether single precision does for all of these variances, of which `most` is the greatest."""
    return all(
        bool((((some >= LEAST_NUMBER) | (some == 0)) & (some <= most)).all()) for some in variances
    )


def _end(dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} ends at {torch.finfo(dtype).max:.1e}"


def _remedy(dtype: torch.dtype) -> str:
    other = "" if dtype == torch.float64 else ", or compute in float64"
    return f"scale the inputs or the weights down{other}"
