"""What a store holds beyond what the newest spec asks for, so that nothing vanishes unsaid."""

from pipelines.report.table import settings_row
from pipelines.report.words import counted, listed
from storage.campaign.spec import Campaign
from storage.planning.plan import Cell, Plan

RAISED = (  # settings that an extension may raise
    ("ensemble", "datasets", "datasets of a cell"),
    ("ensemble", "chains", "chains of a dataset"),
    ("sampler", "draws", "draws of a chain"),
    ("regression", "repeats", "repeats of a regression"),
)


def not_shown(planned: Plan) -> list[str]:
    """A sentence for cells that are left out, and one for what is used though not asked for."""
    return [*_cells(planned), *_more(planned)]


def _cells(planned: Plan) -> list[str]:
    sentences = []
    for cells, noun in ((planned.cells, "cell"), (planned.regressions, "regression")):
        if others := [cell for cell in cells if cell.identity not in planned.current]:
            named = listed(dict.fromkeys(filter(None, map(_named, others[:3]))))
            where = f" ({named}{' and more' if len(others) > 3 else ''})" if named else ""
            kept = "; the table of cells has them" if noun == "cell" else ""
            sentences.append(
                f"The store also holds {counted(len(others), noun)} of earlier specs that the "
                f"newest spec does not ask for{where}: figures and conclusions leave them "
                f"out{kept}, and nothing of them is lost."
            )
    return sentences


def _named(cell: Cell) -> str:
    return ", ".join(f"{symbol} = {value}" for symbol, value in settings_row(cell).items())


def _more(planned: Plan) -> list[str]:
    more = [
        f"{most} {words} (the newest spec asks for {asked})"
        for section, key, words in RAISED
        if (asked := _asked(planned.spec, section, key)) is not None
        and (most := planned.most(section, key)) > asked
    ]
    if not more:
        return []
    return [f"The store holds up to {listed(more)}: all that is finished is used."]


def _asked(spec: Campaign, section: str, key: str) -> int | None:
    found = getattr(spec, section)
    return None if found is None else getattr(found, key)
