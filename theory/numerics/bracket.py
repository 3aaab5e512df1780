"""Roots of many functions of one variable at once."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import elementwise
from torch import Tensor

PRECISION = 4e-15  # of the root, relative, and absolute below 1
TOLERANCES = {"xatol": PRECISION, "xrtol": PRECISION, "fatol": 0.0, "frtol": 0.0}
STEPS = 100


def root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where functions change sign between low and high, elementwise; NaN where they do not.

    Chandrupatla (1997, doi:10.1016/S0965-9978(96)00051-8). The function is of tensors of the shape
    of `low`, each of whose elements has its own.
    """
    points = low.flatten().clone()

    def some(x: np.ndarray, places: np.ndarray) -> np.ndarray:
        """SciPy asks for the functions whose roots are not found yet; the others stay put."""
        asked = torch.from_numpy(places)
        points[asked] = torch.from_numpy(x).to(points.device)
        return function(points.reshape(low.shape)).flatten()[asked].cpu().numpy()

    found = elementwise.find_root(
        some,
        (low.flatten().cpu().numpy(), high.flatten().cpu().numpy()),
        args=(np.arange(low.numel()),),
        tolerances=TOLERANCES,
        maxiter=STEPS,
    )
    return torch.from_numpy(found.x).reshape(low.shape).to(low.device)
