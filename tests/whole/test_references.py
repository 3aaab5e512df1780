"""Every paper that the code names can be looked up in `theory/references.bib`."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("theory", "storage", "workers", "pipelines")
ENTRY = re.compile(r"@(\w+)\{(\w+),\n(.*?)\n\}", re.S)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.M)
NAMED = re.compile(r"(?:arXiv:|arxiv\.org/abs/)((?:[a-z-]+/)?[\d.]*\d)|doi:(10\.[^\s,;]*\w)")
NAME = r"[A-Z][\w-]+"
OTHERS = rf"(?:(?:, {NAME})*,?\s+and\s+{NAME}|\s+et al\.)"
CITED = re.compile(rf"\b({NAME}){OTHERS}? \(?((?:18|19|20)\d\d)\b")
IGNORED = {"SC"}  # a conference


def entries():
    text = (ROOT / "theory" / "references.bib").read_text()
    return {key: (kind, dict(FIELD.findall(body))) for kind, key, body in ENTRY.findall(text)}


def plain(name):
    """Without accents of TeX or Unicode."""
    bare = re.sub(r"\\\W|\\[a-z] |[{}\\]", "", name)
    return unicodedata.normalize("NFKD", bare).encode("ascii", "ignore").decode()


def surnames(entry):
    people = entry["author"].split(" and ")
    return [plain(each.split(",")[0] if "," in each else each.split()[-1]) for each in people]


def sources():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, path.read_text()


ENTRIES = entries()


def test_every_entry_can_be_looked_up():
    assert len(ENTRIES) > 80
    keys = re.findall(r"^@\w+\{(.*),$", (ROOT / "theory" / "references.bib").read_text(), re.M)
    assert keys == sorted(ENTRIES)  # none twice, none that is not read
    for key, (_, entry) in ENTRIES.items():
        assert {"author", "title", "year"} <= set(entry), key
        place = {"journal", "booktitle", "publisher", "howpublished", "school", "institution"}
        assert {"eprint", "doi", "url", "note"} & set(entry) or place & set(entry), key


def test_no_paper_has_two_entries():
    for field in ("eprint", "doi", "title"):
        values = [entry[field] for _, entry in ENTRIES.values() if field in entry]
        assert len(values) == len(set(values))


def test_every_number_of_a_paper_in_the_code_is_one_of_an_entry():
    known = {entry.get(field) for _, entry in ENTRIES.values() for field in ("eprint", "doi")}
    campaigns = (ROOT / "pipelines").rglob("*.yaml")
    texts = [*sources(), *((path, path.read_text()) for path in campaigns)]
    named = [(path.name, m[1] or m[2]) for path, text in texts for m in NAMED.finditer(text)]
    assert len(named) > 70
    assert [each for each in named if each[1] not in known] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_author_that_is_cited_has_an_entry_of_that_year(package):
    papers = {
        (name.split()[-1].split("-")[-1], year)
        for key, (_, entry) in ENTRIES.items()
        for name in surnames(entry)
        for year in (entry["year"], re.sub(r"\D", "", key)[:4])  # a preprint may be older
    }
    unknown = [
        (str(path.relative_to(ROOT)), " ".join(found[0].split()))
        for path, text in sources()
        if path.is_relative_to(ROOT / package)
        for found in CITED.finditer(plain(text))
        if found[1] not in IGNORED and (found[1].split("-")[-1], found[2]) not in papers
    ]
    assert unknown == []
