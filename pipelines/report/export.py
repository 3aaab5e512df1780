"""What a paper needs of a campaign: panels as PDF and SVG, their numbers as netCDF, the methods."""

from collections.abc import Sequence
from pathlib import Path

import xarray as xr
from xarray import DataTree

from pipelines.analysis.verdict_rows import verdicts
from pipelines.report import markdown
from pipelines.report.class_balance import stored_balance
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
from storage.backend.reader import open_campaign
from storage.errors import CampaignError
from storage.planning.identity import numerics_of
from storage.planning.plan import Plan
from storage.store import archive
from storage.store.results import stored_plan
from storage.store.store import Store


def export(store: Store, folder: Path) -> list[Path]:
    """Write `<panel>.pdf`, `.svg` and `.nc` for each panel, and the texts; the files written.

    The texts are `methods.md` and `captions.md`, and of what was compared `verdicts.csv` with a row
    for each test, `verdicts.tex` with the table of theories and observables, `references.bib`.

    The same store gives the same bytes. CampaignError where the folder cannot be written.
    """
    planned = stored_plan(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tree = open_campaign(store.url)
        learn(tree)
        found = panels(tree)
        left_out = list(found.left_out)
        written = [
            path for panel in found.made for path in _panel(panel, planned, folder, left_out)
        ]
        texts = _tables(tree, planned, left_out) | {
            "captions.md": _captions(found.made),
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


def _captions(made: Sequence[Panel]) -> str:
    """The captions of the panels, by the names of their files."""
    said = [
        f"**{panel.name}.** {markdown.text(f'{panel.title}. {panel.caption}')}" for panel in made
    ]
    return "\n\n".join(["# Captions", *said]) + "\n"


def _panel(panel: Panel, planned: Plan, folder: Path, left_out: list[str]) -> list[Path]:
    """A picture that cannot be drawn is left out with a line, its numbers are not."""
    contents: dict[str, bytes] = {}
    with part(f"The picture “{panel.title}”", left_out):
        contents = {"pdf": pdf(panel.figure), "svg": svg_with_text(panel.figure)}
    paths = [folder / f"{panel.name}.{kind}" for kind in (*contents, "nc")]
    for path, content in zip(paths, contents.values(), strict=False):
        path.write_bytes(content)
    numbers(panel, planned).to_netcdf(paths[-1], engine="h5netcdf")
    return paths


def numbers(panel: Panel, planned: Plan) -> xr.Dataset:
    """The data behind a panel with what a reader must know; attributes are text and numbers."""
    attrs = {
        "Conventions": CONVENTIONS,
        "title": panel.title,
        "comment": panel.caption,
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
