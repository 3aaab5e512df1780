"""What a paper needs of a campaign: pictures, the numbers behind them, tables and the methods."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.analysis.verdict_rows import verdicts
from pipelines.report import markdown, style
from pipelines.report.class_balance import stored_balance
from pipelines.report.columns import Column, columns
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.panels import panels
from pipelines.report.parts import part, tell
from pipelines.report.picture import pdf, svg_with_text
from pipelines.report.provenance import runs
from pipelines.report.sentences.prose import methods
from pipelines.report.tables import as_csv, as_tex, bibliography
from pipelines.report.theory_names import learn
from pipelines.report.verdict_table import verdict_table
from pipelines.report.words import listed
from storage.arrays.attributes import encoded
from storage.arrays.schema import CONVENTIONS
from storage.backend.reader import open_cells
from storage.errors import CampaignError
from storage.planning.identity import numerics_of
from storage.planning.plan import Plan
from storage.store import archive
from storage.store.results import stored_plan
from storage.store.store import Store

COLUMN = "column"  # the folder of facets that are as wide as a column


def export(store: Store, folder: Path) -> list[Path]:
    """Write `<panel>.pdf`, `.svg` and `.nc` for each panel, and the texts; the files written.

    Each facet of a panel comes alone as well, as wide as a column of a journal, in `column/`.
    The texts are `methods.md` and `captions.md`, and of what was compared `verdicts.csv` with a row
    for each test, `verdicts.tex` with the table of theories and observables, `references.bib`.

    The same store gives the same bytes. CampaignError where the folder cannot be written.
    """
    planned = stored_plan(store)
    try:
        (folder / COLUMN).mkdir(parents=True, exist_ok=True)
        tree = open_cells(store.url)
        learn(tree)
        found = panels(tree)
        left_out = list(found.left_out)
        alone = {panel.name: _columns(panel, left_out) for panel in found.made}
        written = [
            path
            for panel in found.made
            for path in _panel(panel, alone[panel.name], planned, folder, left_out)
        ]
        texts = _tables(tree, planned, left_out) | {
            "captions.md": _captions(
                {panel.name: f"{panel.title}. {panel.caption}{panel.room}" for panel in found.made}
            ),
            f"{COLUMN}/captions.md": _captions(
                {column.name: column.caption for columns in alone.values() for column in columns}
            ),
            "methods.md": methods_page(store, planned, left_out),
        }
        for name, content in texts.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise CampaignError(
            f"cannot write {folder}: {error.strerror}; choose another folder"
        ) from None
    tell(left_out)
    return [*written, *(folder / name for name in texts)]


def _tables(tree: DataTree, planned: Plan, left_out: list[str]) -> dict[str, str]:
    """The verdicts, every one and in a table, and the papers of the theories; none without any."""
    rows = verdicts(tree)
    if not rows:
        return {}
    texts: dict[str, str] = {}
    with part("The tables of verdicts", left_out):
        texts |= {
            "verdicts.csv": as_csv(rows),
            "verdicts.tex": as_tex(verdict_table(rows)),
            "references.bib": bibliography(planned.spec.theories),
        }
    return texts


def _captions(said: Mapping[str, str]) -> str:
    """Captions by the names of the files."""
    lines = [f"**{name}.** {markdown.text(caption)}" for name, caption in said.items()]
    return "\n\n".join(["# Captions", *lines]) + "\n"


def _columns(panel: Panel, left_out: list[str]) -> list[Column]:
    found: list[Column] = []
    with part(f"The columns of “{panel.title}”", left_out):
        found.extend(columns(panel))
    return found


def _panel(
    panel: Panel, alone: Sequence[Column], planned: Plan, folder: Path, left_out: list[str]
) -> list[Path]:
    """A picture that cannot be drawn is left out with a line, its numbers are not."""
    contents: dict[str, bytes] = {}
    with part(f"The picture “{panel.title}”", left_out):
        contents.update(_pictures(panel, alone))
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    data = folder / f"{panel.name}.nc"
    numbers(panel, planned).to_netcdf(data, engine="h5netcdf")
    return [*(folder / name for name in contents), data]


def _pictures(panel: Panel, alone: Sequence[Column]) -> Iterator[tuple[str, bytes]]:
    """The files of the whole panel and of each facet, with their names."""
    yield from _files(panel.name, panel.figure, style.PAGE)
    for column in alone:
        yield from _files(f"{COLUMN}/{column.name}", column.figure(), style.COLUMN)


def _files(name: str, figure: Figure, size: style.Size) -> Iterator[tuple[str, bytes]]:
    yield f"{name}.pdf", pdf(figure, size)
    yield f"{name}.svg", svg_with_text(figure, size)


def numbers(panel: Panel, planned: Plan) -> xr.Dataset:
    """The data behind a panel with what a reader must know; attributes are text and numbers."""
    attrs = {
        "Conventions": CONVENTIONS,
        "title": panel.title,
        "comment": panel.caption + panel.room,
        "campaign": planned.spec.name,
        "identity": planned.identity,
        **encoded({str(name): value for name, value in panel.data.attrs.items()}),
    }
    return panel.data.drop_encoding().assign_attrs(attrs)


def methods_page(store: Store, planned: Plan, left_out: list[str]) -> str:
    """The methods of the campaign in Markdown, a paragraph for each part."""
    title = planned.spec.title or planned.spec.name
    paragraphs: dict[str, str] = {}
    with part("The text of the methods", left_out):
        paragraphs = methods(planned.spec)
        paragraphs["Data"] = f"{paragraphs['Data']} {stored_balance(store)}".strip()
    paragraphs["Software"] = _software(store, planned)
    if left_out:
        paragraphs["Left out"] = " ".join(left_out)
    parts = [f"**{name}.** {markdown.text(said)}" for name, said in paragraphs.items()]
    return "\n\n".join([f"# Methods: {markdown.text(title)}", *parts]) + "\n"


def _software(store: Store, planned: Plan) -> str:
    found = runs(store)
    computed = archive.numerics(store.objects)
    last = found[-1] if found else {}
    versions = [
        f"{name} {computed.get(key, last.get(key, 'unknown'))}"
        for key, name in {
            "python": "Python",
            "torch": "PyTorch",
            "numpy": "NumPy",
            "scipy": "SciPy",
        }.items()
    ]
    commits = sorted({str(run.get("commit", "unknown")) for run in found}) or ["unknown"]
    return (
        f"finitewidth (commit {listed(commits)}, numerics {numerics_of(planned.spec)}) ran with "
        f"{listed(versions)} on {computed.get('device', 'an unknown device')}, with "
        f"{computed.get('threads', '1')} BLAS thread per worker and the "
        f"{computed.get('backend', 'torch')} gradient. Random "
        "numbers are counter-based, keyed by the seed, the identity of the cell or the data, "
        f"dataset, chain and step. The campaign is {planned.identity}."
    )
