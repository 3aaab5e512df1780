"""What a paper needs of a campaign: panels as PDF and SVG, their numbers as netCDF, the methods."""

import json
from html import escape
from pathlib import Path
from typing import Any

import xarray as xr

from pipelines.class_balance import stored_balance
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.panels import panels
from pipelines.report.picture import pdf, svg
from pipelines.report.prose import methods
from pipelines.report.provenance import runs
from pipelines.report.words import listed
from storage.errors import CampaignError
from storage.identity import numerics_of
from storage.plan import Plan
from storage.reader import open_campaign
from storage.results import stored_plan
from storage.schema import CONVENTIONS
from storage.store import Store


def export(store: Store, folder: Path) -> list[Path]:
    """Write `<panel>.pdf`, `.svg` and `.nc` for each panel, and `methods.md`; the files written.

    The same store gives the same bytes. CampaignError where the folder cannot be written.
    """
    planned = stored_plan(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made, _ = panels(open_campaign(store.url))
        written = [path for panel in made for path in _panel(panel, planned, folder)]
        text = folder / "methods.md"
        text.write_text(methods_page(store, planned))
    except OSError as error:
        raise CampaignError(
            f"cannot write {folder}: {error.strerror}; choose another folder"
        ) from None
    return [*written, text]


def _panel(panel: Panel, planned: Plan, folder: Path) -> list[Path]:
    paths = [folder / f"{panel.name}.{kind}" for kind in ("pdf", "svg", "nc")]
    paths[0].write_bytes(pdf(panel.figure))
    paths[1].write_bytes(svg(panel.figure))
    numbers(panel, planned).to_netcdf(paths[2], engine="h5netcdf")
    return paths


def numbers(panel: Panel, planned: Plan) -> xr.Dataset:
    """The data behind a panel with what a reader must know; attributes are text and numbers."""
    attrs = {
        "Conventions": CONVENTIONS,
        "title": panel.title,
        "comment": panel.caption,
        "campaign": planned.spec.name,
        "identity": planned.identity,
        **{str(name): _plain(value) for name, value in panel.data.attrs.items()},
    }
    return panel.data.drop_encoding().assign_attrs(attrs)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def methods_page(store: Store, planned: Plan) -> str:
    """The methods of the campaign in Markdown, a paragraph for each part."""
    title = planned.spec.title or planned.spec.name
    paragraphs = methods(planned.spec) | {"Software": _software(store, planned)}
    paragraphs["Data"] = f"{paragraphs['Data']} {stored_balance(store)}".strip()
    parts = [f"**{name}.** {escape(text, quote=False)}" for name, text in paragraphs.items()]
    return "\n\n".join([f"# Methods: {escape(title, quote=False)}", *parts]) + "\n"


def _software(store: Store, planned: Plan) -> str:
    found = runs(store)
    computed: dict[str, str] = json.loads(store.objects.get("provenance/numerics.json") or b"{}")
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
        f"{computed.get('kernel', 'plain')} gradient. Random "
        "numbers are counter-based, keyed by the seed, the identity of the cell or the data, "
        f"dataset, chain and step. The campaign is {planned.identity}."
    )
