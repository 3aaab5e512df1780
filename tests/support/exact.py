"""The linear problem of `blocks.LINEAR` beside its exact posterior, chain by chain."""

import math

import numpy as np

from pipelines.theories import ensemble_theories
from pipelines.theories.ensemble_theories import Problem
from storage.campaign.plugins import Plugins
from storage.campaign.spec import Campaign
from support.blocks import Block, data_of

WIDE = 10**6


def posterior(spec: Campaign, *, width: int | None = None, factor: float = 1.0) -> np.ndarray:
    """E f and E f² at the test points, and E |a|²: of another width or temperature if asked."""
    assert spec.network is not None
    assert spec.sampler is not None
    hot = spec.sampler.model_copy(update={"temperature": factor * spec.sampler.temperature})
    problem = Problem(spec.model_copy(update={"sampler": hot}), data_of(spec), Plugins())
    widths = [spec.network.width if width is None else width]
    (found,) = ensemble_theories.scale_mixture(problem, widths)
    mean, variance = found["output_mean"], found["predictive_variance"]
    return np.concatenate([mean, variance + mean**2, found["weight_norm"][None]])


def of_each_chain(block: Block) -> np.ndarray:
    """The same, averaged over the draws of each chain: (chain, observable)."""
    found = block.values
    norm = found["weight_norm"].mean(1, keepdims=True)
    return np.concatenate(
        [found["output_mean"].mean(1), found["output_square"].mean(1), norm], axis=1
    )


def mean_and_error(chains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over independent chains, and its standard error."""
    return chains.mean(0), chains.std(0, ddof=1) / math.sqrt(len(chains))


def apart(found: np.ndarray, expected: np.ndarray, error: np.ndarray) -> float:
    """The largest deviation, in standard errors."""
    return float(np.abs((found - expected) / error).max())
