"""The report of a campaign: one HTML file that holds its pictures, and the pictures beside it."""

from collections.abc import Callable

from xarray import DataTree

from pipelines.analysis.verdict_rows import verdicts
from pipelines.progress import failed_stages
from pipelines.report import page
from pipelines.report.class_balance import stored_balance
from pipelines.report.damage import REPORT, signed
from pipelines.report.figures.cells import group
from pipelines.report.figures.panels import panels
from pipelines.report.gallery import Picture, pictures
from pipelines.report.parts import part, tell
from pipelines.report.provenance import runs
from pipelines.report.ranking import ranking_rows
from pipelines.report.sentences.conclusions import OPEN_SENTENCES, sentences
from pipelines.report.sentences.extent import not_shown
from pipelines.report.sentences.prose import abstract
from pipelines.report.table import cell_rows
from pipelines.report.theory_names import in_words, learn
from pipelines.report.verdict_table import verdict_table
from pipelines.report.words import counted, listed
from storage.backend.reader import open_cells
from storage.planning.plan import Plan
from storage.reading.document import dump_yaml
from storage.store.results import stored_plan
from storage.store.store import Store

MOST_OBSERVABLES = 12  # in the table of verdicts; the others open at a click
OPEN_ROWS = 20  # of the table of cells; the others open at a click
MOST_ROWS = 500


def write_report(store: Store) -> str:
    """Write `report/report.html` and `report/<panel>.png`, and say where the page is.

    What a campaign lacks, or has not finished, is said and left out, and so is what cannot be made.
    """
    planned = stored_plan(store)
    tree = open_cells(store.url)
    learn(tree)
    left_out: list[str] = []
    html = page.page(_title(planned), _parts(store, planned, tree, left_out))
    store.objects.put(REPORT, signed(html))
    tell(left_out)
    return f"{store.url}/{REPORT}"


# -- the page -------------------------------------------------------------------------------


def _title(planned: Plan) -> str:
    return planned.spec.title or planned.spec.name


def _parts(store: Store, planned: Plan, tree: DataTree, left_out: list[str]) -> list[str]:
    """The sections of the page; one that fails is a line in the last but two."""
    found = panels(tree)
    left_out += found.left_out
    drawn = pictures(store.objects, found.made, left_out)
    sections: dict[str, Callable[[], str]] = {
        "The state of the campaign": lambda: _state(store, planned),
        "The abstract": lambda: page.paragraph(
            f"{abstract(planned.spec)} {stored_balance(store)}".strip()
        ),
        "The table of verdicts": lambda: _verdicts(tree),
        "The list of conclusions": lambda: _conclusions(tree, left_out),
        "The gallery": lambda: "".join(
            _picture(picture, number) for number, picture in enumerate(drawn, start=1)
        ),
        "The ranking of theories": lambda: _ranking(tree),
        "The table of cells": lambda: _cells(planned, store),
    }
    made = [f"<h1>{page.escape(_title(planned))}</h1>"]
    for what, make in sections.items():
        with part(what, left_out):
            made.append(make())
    made += [_missing(found.missing), *map(page.paragraph, left_out)]
    return [*made, _reading(store), *_provenance(store, planned)]


def _state(store: Store, planned: Plan) -> str:
    """What is finished, which stages failed, and what the store has besides."""
    names = [shard.name for shard in planned.shards()]
    finished = len(store.ledger.finished().intersection(names))
    facts = (
        f"campaign {planned.spec.name} · {planned.identity[:10]} · "
        f"{finished} of {len(names)} shards finished{_last_run(store)}"
    )
    notes = [
        f"The stage {stage} failed: {why.rstrip('.')}. What it makes is missing or old below."
        for stage, why in failed_stages.reasons(store).items()
    ] + not_shown(planned)
    return "".join(
        [
            page.paragraph(facts, "facts"),
            _unfinished(finished, len(names)),
            *(page.paragraph(line, "note") for line in notes),
        ]
    )


def _picture(picture: Picture, number: int) -> str:
    content, kind = (picture.svg, "image/svg+xml") if picture.svg else (picture.png, "image/png")
    panel = picture.panel
    title = f"Figure {number}. {panel.title}"
    return page.picture(content, kind, panel.name, title, panel.caption + panel.room)


def _last_run(store: Store) -> str:
    found = runs(store)
    return f" · last run {str(found[-1].get('started', ''))[:10]}" if found else ""


def _unfinished(finished: int, total: int) -> str:
    if finished == total:
        return ""
    return page.paragraph(
        f"The campaign is not finished: {finished} of {total} shards. Everything below is from "
        "what there is, and may change.",
        "note",
    )


def _conclusions(tree: DataTree, left_out: list[str]) -> str:
    lines = sentences(tree, left_out)
    content = page.heading("Conclusions") + page.bullets(
        line.text for line in lines[:OPEN_SENTENCES]
    )
    folded: dict[str, list[str]] = {}
    for line in lines[OPEN_SENTENCES:]:
        folded.setdefault(line.theory, []).append(line.text)
    for theory, more in sorted(folded.items()):  # those of no theory in particular come first
        about = f" on {in_words(theory)}" if theory else ""
        content += page.folded(f"{len(more)} more{about}", page.bullets(more))
    return f'<section class="conclusions">{content}</section>'


def _missing(what: list[str]) -> str:
    if not what:
        return ""
    return page.paragraph(
        "Not shown, since the campaign has no numbers for it, or sweeps no number against which it "
        f"is drawn: {listed(what)}."
    )


def _verdicts(tree: DataTree) -> str:
    """Theories and observables against each other: what the sentences are made of."""
    rows = verdict_table(verdicts(tree))
    if not rows:
        return ""
    text = (
        "How many tests of each kind, and the largest relative deviation, measured minus "
        "predicted. Rejected is p < 10⁻³, in doubt p < 0.05, both corrected for all tests of the "
        "kind; agreement is claimed where a tenth of the prediction would have been seen in 19 "
        "cases of 20. The group verdicts of the store has a row for each test."
    )
    shown = page.table(rows[:MOST_OBSERVABLES])
    if rest := rows[MOST_OBSERVABLES:]:
        shown += page.folded(f"{counted(len(rest), 'more observable')}", page.table(rest))
    return page.heading("Verdicts") + page.paragraph(text) + shown


def _ranking(tree: DataTree) -> str:
    fits = group(tree, "fits")
    rows = ranking_rows(fits) if fits is not None else []
    if not rows:
        return ""
    text = (
        "Root mean square over the cells of the relative deviation, measured minus predicted; ★ "
        "marks the theory that comes closest, and the fraction says in how many cells it is "
        "rejected (p < 10⁻³, corrected). Theories that average over data are off by the scatter of "
        "the datasets, too. Jointly: the least p-value of the cells, each of all "
        "observables that the data can carry, times their number. Fitted parameters are medians "
        "over the cells with intervals of 68 %, and in brackets what the theory itself predicts."
    )
    return page.heading("How close theories come") + page.paragraph(text) + page.table(rows)


def _cells(planned: Plan, store: Store) -> str:
    rows, converged = cell_rows(planned, store)
    if not rows:
        return ""
    text = (
        "Learnabilities are means over datasets with standard errors from independent chains; "
        "R-hat is the largest and ESS the smallest over datasets and quantities."
    )
    if not all(converged):
        text += " Shaded cells have a dataset that has not converged; it is not compared."
    if len(rows) > MOST_ROWS:
        text += f" The first {MOST_ROWS} of {len(rows)} cells are shown; the store has all."
    marked = [not good for good in converged]
    shown = page.table(rows[:OPEN_ROWS], marked[:OPEN_ROWS])
    if rest := rows[OPEN_ROWS:MOST_ROWS]:
        table = page.table(rest, marked[OPEN_ROWS:MOST_ROWS])
        shown += page.folded(counted(len(rest), "more cell"), table)
    return page.heading("Cells") + page.paragraph(text) + shown


def _reading(store: Store) -> str:
    lines = [
        "import xarray as xr",
        "",
        f"path = {store.data!r}",
        'tree = xr.open_datatree(path, engine="finitewidth")  # sweep axes as dimensions',
        'tree = xr.open_datatree(path, engine="zarr")  # as stored, without finitewidth',
    ]
    return page.heading("The numbers") + page.code("\n".join(lines))


def _provenance(store: Store, planned: Plan) -> list[str]:
    found = runs(store)
    columns = ("started", "command", "commit", "host", "device", "backend")
    versions = ("python", "torch", "numpy", "scipy")
    rows = [
        {key: str(run.get(key, "")) for key in columns}
        | {"versions": ", ".join(f"{key} {run.get(key, '?')}" for key in versions)}
        for run in found
    ]
    specs = [
        page.folded(f"Spec {number} of {len(planned.specs)}", page.code(dump_yaml(spec)))
        for number, spec in enumerate(planned.specs, start=1)
    ]
    identity = (
        f"Campaign {planned.identity}, stored at {store.url}; "
        f"{counted(len(found), 'run')}, {counted(len(specs), 'spec')}."
    )
    return [page.heading("Provenance"), page.paragraph(identity, "facts"), page.table(rows), *specs]
