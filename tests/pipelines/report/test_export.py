"""What is exported: the same bytes each time, and the numbers behind every picture."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xarray as xr

from pipelines.analysis.verdict_rows import verdicts
from pipelines.report.export import export
from pipelines.report.figures import traces
from pipelines.report.figures.panels import panels
from storage.arrays.attributes import axes_of
from storage.backend.reader import open_campaign
from storage.campaign.theories import record
from storage.errors import CampaignError
from storage.store.results import stored_plan
from support.analyzed import analyzed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "paper"
    return folder, export(store, folder)


def test_each_panel_comes_as_two_pictures_and_its_numbers(exported):
    folder, written = exported
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in written}
    texts = {"methods.md", "captions.md", "verdicts.csv", "verdicts.tex", "references.bib"}
    stems = {path.stem for path in written} - {Path(name).stem for name in texts}
    assert names == {f"{s}.{kind}" for s in stems for kind in ("pdf", "svg", "nc")} | texts
    assert len(stems) == 11


def test_words_of_a_drawing_can_be_edited(store, exported):
    for panel in panels(open_campaign(store.url)).made:
        drawing = ElementTree.parse(exported[0] / f"{panel.name}.svg")  # of our own making
        words = {
            "".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text")
        }
        labels = {axes.get_xlabel() for axes in panel.figure.axes if axes.get_visible()}
        assert {label for label in labels if label and "$" not in label} <= words, panel.name


@pytest.mark.slow
def test_exporting_twice_gives_equal_files(store, exported, tmp_path):
    again = {path.name: path.read_bytes() for path in export(store, tmp_path)}
    unlike = [path.name for path in exported[1] if again[path.name] != path.read_bytes()]
    assert unlike == []


def test_the_numbers_are_those_of_the_panel_with_their_attributes(store, exported):
    folder = exported[0]
    for panel in panels(open_campaign(store.url)).made:
        with xr.open_dataset(folder / f"{panel.name}.nc", engine="h5netcdf") as found:
            xr.testing.assert_equal(found.load(), panel.data)
            for name, variable in panel.data.variables.items():
                kept = {k: v for k, v in variable.attrs.items() if k in ("long_name", "units")}
                assert kept.items() <= found[name].attrs.items()
            assert found.attrs["title"] == panel.title
            assert found.attrs["comment"] == panel.caption
            assert found.attrs["identity"] == stored_plan(store).identity
            assert axes_of(found.attrs) == axes_of(panel.data.attrs)


def test_tables_have_every_verdict_and_every_paper(store, exported):
    folder, rows = exported[0], verdicts(open_campaign(store.url))
    with (folder / "verdicts.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["kind"] for row in found] == [row.kind for row in rows]
    papers = {key for theory in stored_plan(store).spec.theories for key in record(theory).papers}
    keys = re.findall(r"^@\w+\{(.*),$", (folder / "references.bib").read_text(), re.M)
    assert keys == sorted(papers)
    table = (folder / "verdicts.tex").read_text()
    assert table.isascii()
    body = [line for line in table.splitlines() if line.endswith(r" \\")]
    assert len({line.count(" & ") for line in body}) == 1
    captions = (folder / "captions.md").read_text()
    assert all(f"**{panel.name}.**" in captions for panel in panels(open_campaign(store.url)).made)


def test_pictures_hold_no_date_and_no_fonts_of_the_machine(exported):
    for path in exported[1]:
        if path.suffix == ".svg":
            text = path.read_text()
            assert "<dc:date>" not in text
            fonts = {name for names in re.findall("font-family: ([^;]*);", text)
                     for name in names.split(", ")}  # fmt: skip
            assert fonts <= {"'DejaVu Sans'", "sans-serif"}
        if path.suffix == ".pdf":
            assert b"/CreationDate" not in path.read_bytes()


def test_the_methods_name_versions_and_the_campaign(store, exported):
    text = (exported[0] / "methods.md").read_text()
    recorded = json.loads(store.objects.get("provenance/numerics.json") or b"{}")
    for found in (stored_plan(store).identity, recorded["torch"], recorded["numpy"], "seed 1"):
        assert found in text
    paragraphs = [p for p in text.split("\n\n")[1:] if p]
    assert [p.partition(".**")[0].strip("*") for p in paragraphs] == [
        "Data",
        "Networks",
        "Sampling",
        "Observables",
        "Regression",
        "Sweep",
        "Theories",
        "Statistics",
        "Software",
    ]
    assert all(p.strip().endswith(".") for p in paragraphs)


def test_a_folder_that_cannot_be_written_is_one_line(store, tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    with pytest.raises(CampaignError, match=r"cannot write .*choose another folder$"):
        export(store, place)


def test_a_picture_that_cannot_be_drawn_leaves_the_rest(
    store, exported, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(traces, "_draw", fails)
    written = {path.name for path in export(store, tmp_path)}
    assert {path.name for path in exported[1]} - written == {"traces.pdf", "traces.svg"}
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "“Traces of the chains” could not be made and is left out: ZeroDivisionError: 0." in line
    assert line.strip() in (tmp_path / "methods.md").read_text()


def fails(data):
    raise ZeroDivisionError("0")
