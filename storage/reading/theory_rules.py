"""Which theories hold where: what each needs of a cell, and of the campaign that names it.

A campaign names any theory that fits one of its cells at least. Elsewhere the theory predicts
nothing, for the reason that `misfit` gives.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from storage.campaign.resolved import sampled
from storage.campaign.spec import Campaign
from storage.campaign.theories import BY_NAME
from storage.campaign.theory_record import Theory
from storage.campaign.theory_spec import group_name
from storage.errors import CampaignError
from storage.planning.plan import Plan

MOST_NAMED = 3  # reasons in one line


def misfit(theory: str, cell: Campaign) -> str | None:
    """Why a theory does not hold for a resolved cell: `depth 2, wanted 1`; None where it does."""
    return next(_misfits(theory, cell), None)


def _misfits(theory: str, cell: Campaign) -> Iterator[str]:
    record = BY_NAME.get(theory, Theory(theory))  # a plug-in's own is not read here
    for condition in record.conditions:
        if (found := condition(sampled(cell))) is not None:
            yield found


def check_theories(spec: Campaign, cells: Sequence[Campaign]) -> None:
    """Raise CampaignError for a theory that can be held against none of the resolved cells."""
    for problem in _problems(spec, cells):
        raise CampaignError(f"theories: {problem}")


def _problems(spec: Campaign, cells: Sequence[Campaign]) -> Iterator[str]:
    groups: dict[str, str] = {}
    for theory in spec.theories:
        name = group_name(theory)
        if name not in groups:
            groups[name] = theory
        elif groups[name] == theory:
            yield f"{theory} is named twice; leave one out"
        else:
            yield f"{groups[name]} and {theory} would share the group {name}; rename one of them"
    for theory in spec.theories:
        yield from _missing_sections(theory, spec)
        nearest = min(([*_misfits(theory, cell)] for cell in cells), key=len)
        if nearest:
            where = f"holds in none of the {len(cells)} cells" if spec.sweep else "does not hold"
            yield f"{theory} {where}: found {nearest[0]}; leave it out"


def _missing_sections(theory: str, spec: Campaign) -> Iterator[str]:
    record = BY_NAME.get(theory, Theory(theory))
    if not record.of_regression and spec.ensemble is None:
        yield f"{theory} predicts an ensemble; add ensemble, or leave {theory} out"
    elif record.of_regression and spec.regression is None:
        yield f"{theory} predicts a regression; add one, or leave it out"
    else:
        for path in record.needs:
            section, _, key = path.partition(".")
            if not getattr(getattr(spec, section), key):
                yield f"{theory} speaks of {path}, which is not set; set it, or leave {theory} out"


# -- where theories hold ----------------------------------------------------------------------


def coverage(planned: Plan) -> list[str]:
    """A line for each theory that does not hold in all cells: where it does, and why not elsewhere.

    `adaptive holds in 2 of 4 cells; elsewhere: depth 2, wanted 1`.
    """
    reasons = {
        theory: [misfit(theory, cell.spec) or "" for cell in planned.cells]
        for theory in planned.spec.theories
    }
    return [covered(theory, "holds in", found) for theory, found in reasons.items() if any(found)]


def covered(theory: str, verb: str, reasons: Sequence[str], places: str = "cells") -> str:
    """`adaptive holds in 2 of 4 cells; elsewhere: depth 2, wanted 1`.

    There is a reason for each place, empty where nothing stands against the theory.
    """
    against = Counter(filter(None, reasons))
    named = [reason for reason, _ in against.most_common(MOST_NAMED)]
    if len(against) > len(named):
        named.append(f"{len(against) - len(named)} more reasons")
    left = len(reasons) - against.total()
    if left:
        return f"{theory} {verb} {left} of {len(reasons)} {places}; elsewhere: {'; '.join(named)}"
    none = f"none of {len(reasons)} {places}" if len(reasons) > 1 else "nothing"
    return f"{theory} {verb} {none}: {'; '.join(named)}"
