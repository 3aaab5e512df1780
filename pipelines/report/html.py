"""The report of a campaign: one HTML file that holds its pictures, and the pictures beside it."""

from xarray import DataTree

from pipelines.class_balance import stored_balance
from pipelines.report import page
from pipelines.report.conclusions import SHOWN, conclusions
from pipelines.report.figures.cells import group
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.panels import panels
from pipelines.report.picture import png, svg
from pipelines.report.prose import abstract
from pipelines.report.provenance import runs
from pipelines.report.ranking import ranking_rows
from pipelines.report.table import cell_rows
from pipelines.report.words import counted, listed
from storage.plan import Plan
from storage.reader import open_campaign
from storage.reading import dump_yaml
from storage.results import stored_plan
from storage.store import Store

REPORT = "report/report.html"
LARGEST_SVG = 500_000  # bytes of a picture inside the page; a larger one goes in as PNG
MOST_ROWS = 200  # of the table of cells


def write_report(store: Store) -> str:
    """Write `report/report.html` and `report/<panel>.png`, and say where the page is.

    What a campaign lacks, or has not finished, is said and left out.
    """
    planned = stored_plan(store)
    tree = open_campaign(store.url)
    made, missing = panels(tree)
    written = {REPORT}
    figures = []
    for panel in made:
        name = f"report/{panel.name}.png"
        small = png(panel.figure)
        store.objects.put(name, small)
        written.add(name)
        figures.append(_picture(panel, small, len(figures) + 1))
    html = page.page(_title(planned), _parts(store, planned, tree, figures, missing))
    store.objects.put(REPORT, html.encode())
    for name in set(store.objects.names("report")) - written:
        store.objects.delete(name)
    return f"{store.url}/{REPORT}"


# -- pictures -------------------------------------------------------------------------------


def _picture(panel: Panel, small: bytes, number: int) -> str:
    drawn = svg(panel.figure)
    content, kind = (drawn, "image/svg+xml") if len(drawn) <= LARGEST_SVG else (small, "image/png")
    title = f"Figure {number}. {panel.title}"
    return page.picture(content, kind, panel.name, title, panel.caption)


# -- the page -------------------------------------------------------------------------------


def _title(planned: Plan) -> str:
    return planned.spec.title or planned.spec.name


def _parts(
    store: Store, planned: Plan, tree: DataTree, figures: list[str], missing: list[str]
) -> list[str]:
    names = [shard.name for shard in planned.shards()]
    finished = len(store.ledger.finished().intersection(names))
    return [
        f"<h1>{page.escape(_title(planned))}</h1>",
        page.paragraph(
            f"campaign {planned.spec.name} · {planned.identity[:10]} · "
            f"{finished} of {len(names)} shards finished{_last_run(store)}",
            "facts",
        ),
        _unfinished(finished, len(names)),
        page.paragraph(f"{abstract(planned.spec)} {stored_balance(store)}".strip()),
        _conclusions(tree),
        *figures,
        _ranking(tree),
        _cells(planned, store),
        _missing(missing),
        _reading(store),
        *_provenance(store, planned),
    ]


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


def _conclusions(tree: DataTree) -> str:
    lines = conclusions(tree)
    shown, more = lines[:SHOWN], lines[SHOWN:]
    content = page.heading("Conclusions") + page.bullets(shown)
    if more:
        content += page.folded(f"{len(more)} more", page.bullets(more))
    return f'<section class="conclusions">{content}</section>'


def _missing(what: list[str]) -> str:
    if not what:
        return ""
    return page.paragraph(f"Not shown, since the campaign has no numbers for it: {listed(what)}.")


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
    return page.heading("Theories") + page.paragraph(text) + page.table(rows)


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
    shown = page.table(rows[:MOST_ROWS], [not good for good in converged[:MOST_ROWS]])
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
    columns = ("started", "command", "commit", "host", "device")
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
