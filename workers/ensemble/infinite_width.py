"""Kernels of the networks of a spec at infinite width, for what is checked before a run.

torch is imported where it is used: most specs are checked without.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from storage.campaign.data_spec import PLUGIN
from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.errors import CampaignError

if TYPE_CHECKING:
    from torch import Tensor


def kernel_at(
    kernel: "Callable[..., Tensor]", x: np.ndarray, spec: Sampled, plugins: Plugins, unknown: str
) -> "Tensor":
    """A kernel of `theory.kernels` at points, in float64; CampaignError where it is `unknown`."""
    import torch

    network, name = spec.network, spec.network.activation
    try:
        return kernel(
            torch.as_tensor(x, dtype=torch.float64),
            depth=network.depth,
            activation=plugins.get(name) if PLUGIN.fullmatch(name) else name,
            weight_variance=network.physical_weight_variance,
            bias_variance=network.bias_variance,
        )
    except ValueError as error:
        raise CampaignError(f"{unknown}: {error}") from None
