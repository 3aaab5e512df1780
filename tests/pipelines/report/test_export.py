"""What is exported: the same bytes each time, and the numbers behind every picture."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xarray as xr

from pipelines.analysis.verdict_rows import verdicts
from pipelines.report import export as exporting
from pipelines.report.columns import columns, file_name
from pipelines.report.export import export
from pipelines.report.figures import traces
from pipelines.report.figures.panels import panels
from storage.arrays.attributes import axes_of
from storage.backend.reader import open_campaign, open_cells
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
    assert {path for path in folder.rglob("*") if path.is_file()} == set(written)
    written = [path for path in written if path.parent == folder]
    names = {path.name for path in written}
    texts = {"methods.md", "captions.md", "verdicts.csv", "verdicts.tex", "references.bib"}
    stems = {path.stem for path in written} - {Path(name).stem for name in texts}
    assert names == {f"{s}.{kind}" for s in stems for kind in ("pdf", "svg", "nc")} | texts
    assert len(stems) == 11


def words_of(path):
    """The words of a drawing of our own making, and the sizes in which they are set, in points."""
    drawing = ElementTree.parse(path)
    texts = list(drawing.iter("{http://www.w3.org/2000/svg}text"))
    assert drawing.getroot().attrib["viewBox"].split()[2] == drawing.getroot().attrib["width"][:-2]
    parts = [part for text in texts for part in text.iter() if part.text and part.text.strip()]
    sizes = [re.search(r"font-size: ([\d.]+)px", part.get("style", "")) for part in parts]
    return {"".join(text.itertext()) for text in texts}, [float(s[1]) for s in sizes if s]


def seen_labels(figure):
    labels = {
        words for axes in figure.axes if axes.get_visible()
        for words in (axes.get_xlabel(), axes.get_ylabel())
    }  # fmt: skip
    return {label for label in labels if label and "$" not in label and "\n" not in label}


def test_words_of_a_drawing_can_be_edited(store, exported):
    for panel in panels(open_cells(store.url)).made:
        words, _ = words_of(exported[0] / f"{panel.name}.svg")
        assert seen_labels(panel.figure) <= words, panel.name


def test_each_facet_stands_alone_as_wide_as_a_column(store, exported):
    folder = exported[0] / "column"
    captions = (folder / "captions.md").read_text()
    names = []
    for panel in panels(open_cells(store.url)).made:
        facets = list(columns(panel))
        assert len(facets) == len(panel.facets(panel.data)) > 0
        names += [facet.name for facet in facets]
        for facet in facets:
            root = ElementTree.parse(folder / f"{facet.name}.svg").getroot()
            assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(3.4 * 72)
            words, sizes = words_of(folder / f"{facet.name}.svg")
            assert 5 <= min(sizes) <= max(sizes) == 8, facet.name  # least are exponents
            assert any(axes.get_xlabel() for axes in facet.figure().axes) or panel.name == "kernels"
            assert seen_labels(facet.figure()) <= words
            assert panel.title not in words
            assert f"**{facet.name}.** {panel.title}" in captions
    assert len(set(names)) == len(names)
    files = {path.name for path in folder.iterdir()} - {"captions.md"}
    assert files == {f"{name}.{kind}" for name in names for kind in ("pdf", "svg")}
    assert "learnability-of-he1" in names


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("learnability He₃, χT = 0.01", "learnability-he3-chit-0.01"),
        ("σ_b² = −1", "sigma-b2--1"),
        ("a/../b: {c}", "a-..-b-c"),
        ("x" * 300, "x" * 80),
    ],
)
def test_names_of_files_are_plain(words, name):
    assert file_name(words) == name


@pytest.fixture
def few(monkeypatch):
    """Three of the panels, the traces among them: all take long to draw."""

    def some(tree):
        found = panels(tree)
        found.made[:] = found.made[:2] + [each for each in found.made if each.name == "traces"]
        return found

    monkeypatch.setattr(exporting, "panels", some)


def test_exporting_twice_gives_equal_files(store, exported, few, tmp_path):
    again = {path.relative_to(tmp_path): path for path in export(store, tmp_path)}
    same = [name for name in again if name.name != "captions.md"]
    assert len(same) > 3 * len(("pdf", "svg", "nc"))
    differing = [
        name for name in same if again[name].read_bytes() != (exported[0] / name).read_bytes()
    ]
    assert differing == []


def test_the_numbers_are_those_of_the_panel_with_their_attributes(store, exported):
    folder = exported[0]
    for panel in panels(open_cells(store.url)).made:
        with xr.open_dataset(folder / f"{panel.name}.nc", engine="h5netcdf") as found:
            xr.testing.assert_equal(found.load(), panel.data)
            for name, variable in panel.data.variables.items():
                kept = {k: v for k, v in variable.attrs.items() if k in ("long_name", "units")}
                assert kept.items() <= found[name].attrs.items()
            assert found.attrs["title"] == panel.title
            assert found.attrs["comment"] == panel.caption + panel.room
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
    assert all(f"**{panel.name}.**" in captions for panel in panels(open_cells(store.url)).made)


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


def test_a_picture_that_cannot_be_drawn_leaves_the_rest(store, few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(traces, "_draw", fails)
    written = [path.name for path in export(store, tmp_path) if path.suffix in (".pdf", ".svg")]
    assert len(written) > 2
    assert not any(name.startswith("traces") for name in written)
    assert (tmp_path / "traces.nc").exists()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "“Traces of the chains” could not be made and is left out: ZeroDivisionError: 0." in line
    assert line.strip() in (tmp_path / "methods.md").read_text()


def fails(data):
    raise ZeroDivisionError("0")
