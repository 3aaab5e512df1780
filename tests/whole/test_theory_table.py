"""From a theory to its paper, its formula and its tests: the manual has what records say."""

import ast
import re
from pathlib import Path

import pytest

from storage.campaign.theories import RECORDS

ROOT = Path(__file__).parents[2]
THEORY, TESTS = ROOT / "theory", ROOT / "tests" / "theory"
MANUAL = (THEORY / "README.md").read_text()
START, END = "<!-- made from the records -->\n\n", "\n<!-- end -->\n"
ENTRY = re.compile(r"@\w+\{(\w+),\n(.*?)\n\}", re.S)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.M)
IDS = {"eprint": "arXiv", "doi": "doi"}
PAPERS = {
    key: dict(FIELD.findall(body))
    for key, body in ENTRY.findall((THEORY / "references.bib").read_text())
}


def modules(theory):
    """The modules of theory/ whose docstrings name it, as paths from the root."""
    for path in sorted(THEORY.rglob("*.py")):
        said = re.search(r"^In campaigns: (.*)\.$", ast.get_docstring(tree(path)) or "", re.M)
        if said and f"`{theory}`" in said[1]:
            yield path.relative_to(ROOT)


def tree(path):
    return ast.parse(path.read_text())


def reaches(path, module):
    """Whether a file imports a module of theory/, or a name of it from the room it is in."""
    dotted = ".".join(module.with_suffix("").parts)
    room, _, last = dotted.rpartition(".")
    defined = {node.name for node in tree(ROOT / module).body if hasattr(node, "name")}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            names = {each.name for each in node.names}
            if node.module == dotted or (node.module == room and names & {last, *defined}):
                return True
    return False


def checks(module):
    """Those of its room that import it."""
    every = sorted((TESTS / module.parent.name).glob("test_*.py"))
    return [path.relative_to(ROOT) for path in every if reaches(path, module)]


def cited(key):
    """`Rubin, Seroussi and Ringel 2024 (arXiv:2310.03789)`."""
    entry = PAPERS[key]
    people = [each.split(",")[0] for each in entry["author"].split(" and ")]
    people = [re.sub(r"\\\W|[{}\\]", "", each) for each in people]
    who = f"{', '.join(people[:-1])} and {people[-1]}" if len(people) > 1 else people[0]
    who = f"{people[0]} et al." if len(people) > 3 else who
    place = next((f"{kind}:{entry[key]}" for key, kind in IDS.items() if key in entry), "")
    return f"{who} {entry['year']}" + f" ({place})" * bool(place)


def row(record):
    formulas = list(modules(record.name))
    tested = dict.fromkeys(test for module in formulas for test in checks(module))
    return (
        f"`{record.name}`",
        "; ".join(map(cited, record.papers)),
        ", ".join(f"`{path}`" for path in formulas),
        ", ".join(f"`{path}`" for path in tested),
    )


def table():
    rows = [("theory", "paper", "formula", "test"), ("---",) * 4, *map(row, RECORDS)]
    return "".join(f"| {' | '.join(each)} |\n" for each in rows)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_theory_of_campaigns_leads_to_its_paper_its_formula_and_its_tests(record):
    assert all(row(record))


def test_the_manual_has_the_table_of_the_records():
    _, _, rest = MANUAL.partition(START)
    made = table()
    assert rest.partition(END)[0] == made, f"put this into theory/README.md:\n{made}"


def test_files_that_the_manual_names_are_there():
    named = re.findall(r"`((?:theory|tests|workers|pipelines|storage)/[\w/.]*)`", MANUAL)
    assert len(named) > 60
    assert [path for path in named if not (ROOT / path).exists()] == []
