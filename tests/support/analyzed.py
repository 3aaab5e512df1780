"""The smallest campaign, simulated and analyzed up to its report."""

from itertools import islice

from pipelines.engine import engine, stages
from storage.campaign.regression_spec import DECIMATED_THEORIES, SPECTRAL_THEORIES
from storage.store.store import Store
from support.driving import prepared, simulate

# Independent draws of the prior, which every chain has reached: 16 chains of each of two datasets.
PRIOR = (
    "sampler={scheme: prior, temperature: 0.5, warmup: 0, draws: 40, thin: 1, segment: 20}",
    "ensemble={datasets: 2, chains: 16, block: 16}",
    "sweep={size: {network.width: [4, 8, 16]}}",
)
NO_REGRESSION = ("regression=null", "theories=[nngp]")
REGRESSION_ALONE = (
    "ensemble=null",
    "sampler=null",
    "sweep={}",
    "theories=[effective_ridge]",
)
# A pool large enough for the law of its spectrum, and repeats enough for a verdict on two sizes.
EVERY_CURVE = (
    *REGRESSION_ALONE[:-1],
    f"theories={[*SPECTRAL_THEORIES, *DECIMATED_THEORIES]}",
    "regression={train: [4, 8, 16, 60], ridges: [1.0e-6, 0.1], repeats: 8, pool: 120,"
    " sampling: with_replacement, evaluate: [pool]}",
)
TWO_AXES = (
    "sweep={size: {network.width: [4, 8]}, noise: {data.label_noise: [0.1, 0.2]}}",
    *NO_REGRESSION,
)
MEAN_FIELD = ("network.scaling=mean_field", "network.chi=4", *NO_REGRESSION)


def analyzed(root: object, *overrides: str) -> Store:
    """The store of a finished campaign, all stages but the report behind it."""
    campaign = prepared(root, *overrides)
    simulate(campaign)
    _analyze(campaign)
    return campaign.store


def unfinished(root: object, shards: int, *overrides: str) -> Store:
    """The store of a campaign of which so many shards are finished."""
    campaign = prepared(root, *overrides)
    with engine.drive(campaign, engine.Inline()) as driven:
        outcomes = (outcome for wave in driven.left for outcome in driven.run(wave))
        assert len(list(islice(outcomes, shards))) == shards
    _analyze(campaign)
    return campaign.store


def _analyze(campaign: engine.Prepared) -> None:
    before = [name for name in stages.STAGES if name != "report"]
    stages.analyze(campaign.store, campaign.plugins, before)
