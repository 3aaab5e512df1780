"""Settings that could never do anything, refused when a campaign is read."""

import itertools
from collections.abc import Iterator

from storage.campaign.messages import short, word
from storage.campaign.regression_spec import REGRESSION_THEORIES
from storage.campaign.spec import Campaign
from storage.errors import CampaignError
from storage.planning.sweep import between, grid


def check_refine(spec: Campaign) -> None:
    """Raise CampaignError for a campaign that would refine itself and never can."""
    for problem in _problems(spec):
        raise CampaignError(problem)


def _problems(spec: Campaign) -> Iterator[str]:
    refine, sampler = spec.refine, spec.sampler
    if refine is None or sampler is None:
        return
    if refine.by == "disagreement":
        if all(theory in REGRESSION_THEORIES for theory in spec.theories):
            yield (
                "refine.by: disagreement is that of theories of the ensemble; found none in "
                "theories: name one, or take gradient or bimodality"
            )
        if sampler.record.law == "none":
            yield (
                f"refine.by: disagreement is with what is sampled, and scheme {sampler.scheme} is "
                "never compared with theories; take gradient or bimodality"
            )
    paths = list(spec.sweep[refine.axis])
    rows = sorted({tuple(settings[path] for path in paths) for settings in grid(spec)})
    points = [dict(zip(paths, row, strict=True)) for row in rows]
    if all(between(*pair, paths) is None for pair in itertools.pairwise(points)):
        yield (
            f"refine.axis: nothing lies between the values {short([row[0] for row in rows])} of "
            f"{word(paths[0])}; give values farther apart, or leave refine out"
        )
