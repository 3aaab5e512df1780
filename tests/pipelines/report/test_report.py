"""The report: one page that needs nothing else, says what is missing, and believes no text."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipelines.engine import engine
from pipelines.report import gallery
from pipelines.report import html as html_module
from pipelines.report.figures import traces
from pipelines.report.figures.panels import panels
from pipelines.report.html import write_report
from pipelines.report.page import page, table
from pipelines.report.sentences import conclusions
from pipelines.report.sentences.extent import not_shown
from pipelines.report.sentences.prose import abstract, methods
from pipelines.report.table import cell_rows
from pipelines.text.rounding import plain, uncertain
from storage.arrays.coordinates import physical_temperature
from storage.backend.reader import open_campaign, open_raw
from storage.files.sealed import seal, unseal
from storage.reading.document import validate
from storage.store.results import stored_plan
from support.analyzed import MEAN_FIELD, NO_REGRESSION, REGRESSION_ALONE, analyzed, unfinished
from support.driving import contents, simulate, unlike
from support.example_specs import EXAMPLES

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert('1')</script> & \"quoted\" <img src=x onerror=alert(2)>"
VOID = {"meta", "img", "br", "link"}
MEGABYTE = 1_000_000


class Page(HTMLParser):
    """Tags that are open, text, and whatever a browser would fetch or run."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.reached, self.text, self.handlers = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.reached += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        """All text, with blanks as blanks."""
        return " ".join("".join(self.text).replace("\N{NO-BREAK SPACE}", " ").split())


def report(store):
    place = write_report(store)
    assert place == f"{store.url}/report/report.html"
    return Path(place).read_text()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    store = analyzed(tmp_path_factory.mktemp("small"))
    return store, report(store)


def test_the_page_is_whole_and_reaches_for_nothing(small):
    html = small[1]
    parsed = Page(html)
    assert parsed.open == []
    assert not {"script", "link", "iframe", "object", "form"} & set(parsed.tags)
    assert parsed.reached
    assert all(place.startswith("data:image/") for place in parsed.reached)
    assert not re.search(r"url\(|@import|https?://", re.sub(r'src="data:[^"]*"', "", html))
    assert len(html) < 5 * MEGABYTE


def test_every_panel_is_a_picture_beside_the_page(small):
    store, html = small
    pictures = [name for name in store.objects.names("report") if name.endswith(".png")]
    assert len(pictures) == html.count("<figure") == 11
    for name in pictures:
        data = store.objects.get(name)
        assert data is not None
        assert len(data) <= 300_000
        assert Image.open(io.BytesIO(data)).width >= 360
        assert f'id="{name.removeprefix("report/").removesuffix(".png")}"' in html


def test_the_same_store_gives_the_same_page_and_nothing_is_drawn_again(small, monkeypatch):
    store, html = small
    before = contents(Path(store.url) / "report")
    monkeypatch.setattr(gallery, "_draw", None)
    assert report(store) == html
    assert unlike(before, contents(Path(store.url) / "report")) == []


@pytest.mark.parametrize("what", ["its numbers", "its file", "the list"])
def test_what_has_changed_is_drawn_again(small, monkeypatch, what):
    store, html = small
    before = contents(Path(store.url) / "report")
    if what == "its numbers":
        monkeypatch.setattr(gallery, "digest", lambda panel: f"another {panel.name}")
    elif what == "its file":
        store.objects.put("report/traces.png", b"of somebody else")
    else:
        store.objects.put(gallery.LIST, b"[broken")
    assert report(store) == html
    after = contents(Path(store.url) / "report")
    assert set(unlike(before, after)) <= {"pictures.json"}


def test_old_pictures_go_and_files_of_others_stay(small):
    store, html = small
    listed = unseal(store.objects.get(gallery.LIST) or b"")
    listed["old"] = {"shows": "", "report/old.png": ""}
    store.objects.put(gallery.LIST, seal(listed))
    for name in ("report/old.png", "report/mine.png"):
        store.objects.put(name, b"a picture")
    assert report(store) == html
    assert "report/old.png" not in store.objects.names("report")
    assert "report/mine.png" in store.objects.names("report")
    store.objects.delete("report/mine.png")


def test_the_digest_of_a_picture_is_of_all_that_it_shows(small):
    panel = next(p for p in panels(open_campaign(small[0].url)).made if p.name == "traces")
    data = panel.data
    others = [
        replace(panel, caption="Another."),
        replace(panel, data=data.assign(loss=data["loss"] + 1e-9)),
        replace(panel, data=data.assign(loss=data["loss"].assign_attrs(rhat=1.0))),
        replace(panel, data=data.assign_coords(draw=data["draw"] + 1)),
        replace(panel, data=data.rename(loss="loss_2")),
    ]
    digests = {gallery.digest(each) for each in [panel, *others]}
    assert len(digests) == 1 + len(others)
    assert gallery.digest(replace(panel, data=data.copy(deep=True))) in digests


def test_a_part_that_fails_is_left_out_with_a_line(small, monkeypatch, capsys):
    store, html = small
    monkeypatch.setattr(gallery, "_code", lambda: "other")

    def fails(*_):
        raise ValueError("<b>no</b> numbers\nat all")

    monkeypatch.setattr(traces, "_draw", fails)
    monkeypatch.setattr(conclusions, "jointly", fails)
    monkeypatch.setattr(html_module, "cell_rows", fails)
    words = Page(report(store)).words
    monkeypatch.undo()
    printed = capsys.readouterr().err.splitlines()
    reason = "could not be made and is left out: ValueError: <b>no</b> numbers at all."
    parts = ("The picture “Traces of the chains”", "theories as a whole", "The table of cells")
    assert len(printed) == len(parts)
    for line, what in zip(printed, parts, strict=True):
        assert what in line
        assert line.endswith(reason)
        assert line in words
    assert words.count("Figure ") == Page(html).words.count("Figure ") - 1
    assert report(store) == html


def test_a_smaller_spec_says_what_is_not_shown(tmp_path):
    more = ("sweep={size: {network.width: [4, 8, 16]}}", *NO_REGRESSION)
    fewer = ("sweep={size: {network.width: [4, 8]}}", "ensemble.datasets=1", *NO_REGRESSION)
    assert not not_shown(stored_plan(analyzed(tmp_path, *more)))
    words = Page(report(analyzed(tmp_path, *fewer))).words
    assert "The store also holds one cell of earlier specs" in words
    assert "(N = 16)" in words
    assert "2 datasets of a cell (the newest spec asks for 1)" in words


def test_the_snippet_opens_the_store(small):
    store, html = small
    snippet = re.search(r"<pre>(import xarray.*?)</pre>", html, re.DOTALL)
    assert snippet
    names = {}
    exec(snippet[1].replace("&quot;", '"').replace("&#x27;", "'"), names)
    assert names["tree"].attrs["identity"] == stored_plan(store).identity


def test_the_page_says_where_the_numbers_come_from(small):
    store, html = small
    words = Page(html).words
    planned = stored_plan(store)
    for found in (planned.identity, store.url, "1 of 1", "conclusions", "R-hat", "torch"):
        assert found.lower() in words.lower()
    assert "not finished" not in words


def test_text_of_the_campaign_is_never_markup(tmp_path):
    campaign = engine.prepare(_spec("power_law", title=HOSTILE), str(tmp_path))
    simulate(campaign)
    html = report(campaign.store)
    parsed = Page(html)
    assert HOSTILE in parsed.words
    assert "script" not in parsed.tags
    assert parsed.handlers == []
    assert html.count("<img") == len(parsed.reached) == 1


def test_pieces_of_the_page_escape_what_they_are_given():
    html = page(HOSTILE, [table([{HOSTILE: HOSTILE}], [True])])
    assert "script" not in Page(html).tags
    assert html.count("&lt;script&gt;") == 3


@pytest.mark.slow
@pytest.mark.parametrize("shards", [0, 9])
def test_an_unfinished_campaign_is_reported_as_such(tmp_path, shards):
    store = unfinished(tmp_path, shards, "network.width=8", "sweep={}")
    words = Page(report(store)).words
    total = sum(1 for _ in stored_plan(store).shards())
    assert f"not finished: {shards} of {total} shards" in words
    assert "Not shown" in words


@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        (REGRESSION_ALONE, "histograms of pre-activations"),
        (NO_REGRESSION, "the learning curve of a regression"),
    ],
    ids=["regression alone", "ensemble alone"],
)
def test_what_a_campaign_lacks_is_said(tmp_path, overrides, missing):
    words = Page(report(analyzed(tmp_path, *overrides))).words
    assert missing in words.partition("Not shown")[2]


def test_a_report_needs_neither_theories_nor_convergence(tmp_path):
    campaign = engine.prepare(_spec("digits"), str(tmp_path))
    simulate(campaign)
    assert "Cells" in Page(report(campaign.store)).words


def test_the_table_of_many_cells_is_folded(monkeypatch):
    rows = [{"N": f"cell {cell}", "learnability": "0.123(45)"} for cell in range(700)]
    monkeypatch.setattr(html_module, "cell_rows", lambda *_: (rows, [True] * len(rows)))
    html = html_module._cells(None, None)  # pyright: ignore
    seen, _, folded = html.partition("<details>")
    assert re.findall(r"cell \d+", seen) == [f"cell {cell}" for cell in range(20)]
    assert re.findall(r"cell \d+", folded) == [f"cell {cell}" for cell in range(20, 500)]
    assert "480 more cells" in folded
    assert "The first 500 of 700 cells are shown" in seen
    assert len(html) < 0.1 * MEGABYTE


def test_the_table_of_cells_has_what_was_learned(small):
    store, html = small
    rows, _ = cell_rows(stored_plan(store), store)
    measured = open_raw(store.url)["fits"].to_dataset()["measured"]
    learned = measured.sel(observable="learnability He1").mean("dataset").values
    found = [float(row["learnability He1"].partition("(")[0].replace("−", "-")) for row in rows]
    errors = [row["learnability He1"] for row in rows]
    assert found == pytest.approx(learned.tolist(), abs=0.051), errors
    assert "learnability He1" in Page(html).words.partition("Cells")[2]


def test_both_temperatures_stand_in_the_table(tmp_path):
    store = analyzed(tmp_path, *MEAN_FIELD)
    planned = stored_plan(store)
    rows, converged = cell_rows(planned, store)
    assert len(rows) == len(converged) == len(planned.cells)
    for row, cell in zip(rows, planned.cells, strict=True):
        assert float(row["χT"]) / float(row["χ"]) == float(row["T"])
        assert float(row["T"]) == physical_temperature(cell.spec)
        # γ = T/σ² of each layer, which the division by χ leaves alone for the readout only.
        assert row["γ · fan-in"] == "0.125, 0.25"
        assert row["σ_a²"] == "0.5"


# -- words ----------------------------------------------------------------------------------


def _spec(name, **changes):
    return validate({**EXAMPLES[name], **changes})


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_abstract_is_a_paragraph_of_sentences(name):
    text = abstract(_spec(name))
    assert text[0].isupper()
    assert text.endswith(".")
    for slip in ("  ", "..", " ,", " .", "None", "_replacement", "True", "1 points", "(,"):
        assert slip not in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_methods_have_every_constant(name):
    spec = _spec(name)
    text = " ".join(methods(spec).values())
    swept = [path for settings in spec.sweep.values() for path in settings]
    sections = spec.model_dump(include={"data", "network", "sampler", "ensemble", "regression"})
    fixed = [v for path, v in _leaves(sections) if not f"{path}.".startswith(_prefixes(swept))]
    varied = [v for settings in spec.sweep.values() for _, v in _leaves({"": [*settings.values()]})]
    for value in {*fixed, *varied} - {0, 1}:  # a factor of 1 or a term of 0 may go without saying
        assert _said(value, text), value


def _prefixes(paths):
    return tuple(f"{path}." for path in paths)


def _leaves(node, path=""):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}".strip("."))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{path}.{index}")
    elif isinstance(node, int | float):
        yield path, node


WORDS = dict(enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight"], start=1))


def _said(value, text):
    shown = re.escape(plain(abs(value), 6))
    return re.search(rf"(?<![\d.]){shown}(?!\.?\d)", text) or WORDS.get(value, "\0") in text


# -- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.8432, 0.0123, "1.843(12)"),
        (0.6, 0.03, "0.60(3)"),
        (-0.6, 0.03, "−0.60(3)"),
        (5.123, 0.0999, "5.12(10)"),
        (123.4, 12.3, "123(12)"),
        (12.34, 1.4, "12.3(1.4)"),
        (1234.0, 350.0, "1200(400)"),
        (1e-5, 2e-7, "1.00(2) × 10⁻⁵"),
        (-0.0001, 0.01, "0.000(10)"),
        (0.125, 0.0, "0.125"),
        (0.125, float("nan"), "0.125"),
        (float("nan"), 0.1, "–"),
    ],
)
def test_a_number_with_its_error(value, error, text):
    assert uncertain(value, error) == text


@pytest.mark.parametrize("error", [3e-4, 0.0096, 0.0196, 0.73, 1.96, 42.0])
def test_an_error_in_brackets_is_rounded_to_a_tenth_of_itself_or_better(error):
    text = uncertain(3.14159, error)
    value, _, shown = text.rstrip(")").partition("(")
    decimals = len(value.partition(".")[2])
    found = float(shown) if "." in shown or decimals == 0 else float(shown) * 10**-decimals
    assert found == pytest.approx(error, rel=0.26)  # one digit from 2 up: 1.95 may become 2
    assert abs(float(value) - 3.14159) <= 0.26 * error
