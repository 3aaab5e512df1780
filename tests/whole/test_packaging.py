"""What the project promises about itself: its versions, its imports, its shape and its commands."""

import ast
import functools
import importlib.metadata as metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipelines", "workers", "theory", "storage")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
DEVELOPMENT = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
NOT_IMPORTED = {"fastapi", "h5netcdf", "h5py"}  # a bound for Prefect, an engine of xarray and its
TOOLS = {"basedpyright", "hatchling", "import-linter", "pytest-timeout", "pytest-xdist", "ruff"}
GPU_LIBRARIES = ("cuda-", "nvidia-", "triton")  # each build of torch names its own
HOSTS = ("pypi org", "pythonhosted org", "pytorch org", "anaconda org", "npmjs org", "debian org")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.Call(
                func=ast.Attribute(attr="importorskip"), args=[ast.Constant(value=str(module)), *_]
            ):
                yield module


def foreign(paths: list[Path]) -> set[str]:
    """Top-level modules that come neither with Python nor from here."""
    tops = {module.partition(".")[0] for path in paths for module in imported(path)}
    return tops - sys.stdlib_module_names - {*PACKAGES, "support", *(path.stem for path in TESTS)}


holders = functools.cache(metadata.packages_distributions)


def distributions(modules: set[str]) -> set[str]:
    """Distributions that hold the modules."""
    return {canonicalize_name(found) for module in modules for found in holders().get(module, ())}


# Versions


def test_every_constraint_is_one_version_that_any_build_satisfies():
    for pin in pins().values():
        assert "+" not in version(pin), pin  # a local label would bind it to one kind of build
        assert not pin.extras
        assert not pin.name.startswith(GPU_LIBRARIES)


@pytest.mark.parametrize(
    "requirement",
    [each for each in DEPENDENCIES + DEVELOPMENT if not each.name.startswith(GPU_LIBRARIES)],
    ids=lambda found: found.name,
)
def test_constraints_satisfy_what_is_declared(requirement):
    pin = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version(pin))


def test_everything_that_is_installed_is_pinned():
    wanted, seen = DEPENDENCIES + DEVELOPMENT, set()
    while wanted:
        requirement = wanted.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or requirement.name.startswith(GPU_LIBRARIES):
            continue
        seen.add(key)
        for line in metadata.requires(requirement.name) or []:
            further = Requirement(line)
            extras = requirement.extras or {""}
            if not further.marker or any(further.marker.evaluate({"extra": e}) for e in extras):
                wanted.append(further)
    assert {found for found, _ in seen} <= pins().keys()


# Imports


def test_dependencies_are_what_is_imported():
    # A part of pydantic, which pins it exactly; and what builds of torch for GPUs bring along.
    modules = foreign(MODULES) - {"pydantic_core", "triton"}
    declared = names(DEPENDENCIES)
    undeclared = {module for module in modules if not distributions({module}) & declared}
    assert not undeclared
    assert declared - distributions(modules) == NOT_IMPORTED


@pytest.mark.slow
def test_development_dependencies_are_what_tests_import_and_tools():
    modules = foreign(TESTS) - foreign(MODULES)
    known = names(DEPENDENCIES + DEVELOPMENT) | {"boto3"}  # which moto cannot be without
    undeclared = {module for module in modules if not distributions({module}) & known}
    assert not undeclared
    assert names(DEVELOPMENT) - distributions(modules) - {"triton"} == TOOLS  # imported by workers/


@pytest.mark.parametrize("path", sorted((ROOT / "theory").rglob("*.py")), ids=name)
def test_theory_is_made_of_tensors_and_numbers(path):
    tops = {module.partition(".")[0] for module in imported(path)}
    assert tops - sys.stdlib_module_names <= {"torch", "numpy", "scipy", "theory"}


# Shape


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_test_imports_from_another():
    others = {path.stem for path in TESTS if path.stem.startswith("test_")}
    assert not others.intersection(module for path in TESTS for module in imported(path))


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "cli.py"], ids=name)
def test_what_is_imported_late_says_why(path):
    text = path.read_text()
    lines, tree = text.splitlines(), ast.parse(text)
    late = [
        each
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for each in ast.walk(function)
        if isinstance(each, ast.Import | ast.ImportFrom)
    ]
    told = "imported where" in " ".join((ast.get_docstring(tree) or "").split())
    assert told or all("#" in "".join(lines[each.lineno - 2 : each.lineno]) for each in late)


def test_any_is_rare():
    """What is Any is not checked: it is for what others give, and nobody says what it is."""
    words = [word for path in MODULES for word in re.findall(r"\w+", path.read_text())]
    assert words.count("Any") < 80


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name)
def test_an_init_is_a_docstring_and_the_names_it_passes_on(path):
    """Those of the files beside it, all of them in __all__, and only in packages of a package."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    _, *rest = tree.body
    if not rest:
        return
    *imports, public = rest
    assert path.parent.parent != ROOT
    inside = ".".join(path.parent.relative_to(ROOT).parts) + "."
    assert all(isinstance(n, ast.ImportFrom) and n.module.startswith(inside) for n in imports)
    assert isinstance(public, ast.Assign)
    passed_on = sorted(alias.name for node in imports for alias in node.names)
    assert sorted(ast.literal_eval(public.value)) == passed_on


def test_no_package_registry_is_named():
    hosts = [host.replace(" ", ".").encode() for host in HOSTS]
    folders = [ROOT / folder for folder in (*PACKAGES, "deploy", "tests", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    sources = [path for path in files if path.suffix != ".pyc"]
    assert not [name(path) for path in sources if any(host in path.read_bytes() for host in hosts)]


@pytest.mark.parametrize("group", ["console_scripts", "xarray.backends"])
def test_entry_points_exist(group):
    (entry,) = metadata.entry_points(group=group, name="finitewidth")
    assert callable(entry.load())


def test_the_command_says_its_version(finitewidth):
    assert finitewidth("--version") == (0, f"finitewidth {PROJECT['version']}\n", "")


def test_the_wheel_holds_the_four_packages_whole(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {file for file in archive.namelist() if ".dist-info/" not in file}
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    assert held == {name(p) for p in files if p.is_file() and p.parent.name != "__pycache__"}
    assert "pipelines/campaigns/quickstart.yaml" in held


# Commands, with a stand-in for Python that writes down what it was asked


STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> calls
case "$*" in
*version_info*) echo "$VERSION" ;;
*ensurepip*) exit ${VENV_STATUS:-0} ;;
"-m venv .venv")
    mkdir -p .venv/bin
    for name in python finitewidth pytest; do cp "$0" .venv/bin/$name; done ;;
*"pip install"*) exit ${PIP_STATUS:-0} ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """`make` in a copy of the project's root that holds nothing but what it reads."""
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    python = tmp_path / "stand-in" / "python3"
    python.parent.mkdir()
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = {"PATH": f"{python.parent}:/usr/bin:/bin", "VERSION": "3.11", **environment}
        command = ["make", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=path, check=False, capture_output=True, text=True
        )

    return run


def calls(tmp_path: Path, word: str) -> list[str]:
    return [line for line in (tmp_path / "calls").read_text().splitlines() if word in line]


NAME_ANOTHER = "PYTHON=python3.12 make demo"
UNFIT = {
    "2.7": ({"VERSION": "2.7"}, "is Python 2.7; wanted 3.11, 3.12 or 3.13", NAME_ANOTHER),
    "3.1": ({"VERSION": "3.1"}, "is Python 3.1; wanted", NAME_ANOTHER),
    "3.10": ({"VERSION": "3.10"}, "is Python 3.10; wanted", NAME_ANOTHER),
    "3.14": ({"VERSION": "3.14"}, "is Python 3.14; wanted", NAME_ANOTHER),
    "missing": ({"PYTHON": "python9"}, "python9 is not found; wanted", NAME_ANOTHER),
    "no venv": ({"VENV_STATUS": "1"}, "3.11 without venv", "apt-get install python3-venv"),
}


@pytest.mark.parametrize(("environment", "found", "advice"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("target", ["demo", "test"])
def test_an_unfit_python_is_answered_in_one_line(
    make, tmp_path, environment, found, advice, target
):
    answer = make(target, **environment)
    assert answer.returncode == 2
    assert not answer.stdout
    (line,) = answer.stderr.splitlines()
    assert found in line
    assert advice in line
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_demo_installs_once_and_runs_the_quickstart(make, tmp_path, minor):
    for _ in range(2):
        assert make("demo", VERSION=f"3.{minor}").returncode == 0
    (install,) = calls(tmp_path, "pip install")
    assert "-c constraints.txt -e ." in install
    assert calls(tmp_path, "finitewidth") == ["finitewidth run quickstart --ui"] * 2


def test_demo_keeps_the_server_where_asked(make, tmp_path):
    make("demo", "KEEP_UI=1")
    assert calls(tmp_path, "finitewidth") == ["finitewidth run quickstart --ui --keep-ui"]


def test_an_installation_that_failed_is_tried_again(make, tmp_path):
    assert make("test", PIP_STATUS="1").returncode == 2
    assert not calls(tmp_path, "pytest")
    assert make("test").returncode == 0
    assert len(calls(tmp_path, "pip install")) == 2
    assert len(calls(tmp_path, "-m venv")) == 1
    assert len(calls(tmp_path, "pytest")) == 1


def test_what_tests_need_is_more_than_the_demo_needs(make, tmp_path):
    for target in ("demo", "test", "demo"):
        make(target)
    assert len(calls(tmp_path, "pip install")) == 2


def test_arguments_reach_every_installation(make, tmp_path):
    for target in ("demo", "test"):
        make(target, "PIP_ARGS=--no-cache-dir")
    assert len(calls(tmp_path, "--no-cache-dir")) == 2


def test_new_constraints_are_installed(make, tmp_path):
    make("demo")
    later = (tmp_path / ".venv/.installed").stat().st_mtime + 1
    os.utime(tmp_path / "constraints.txt", (later, later))
    make("demo")
    assert len(calls(tmp_path, "pip install")) == 2
    assert len(calls(tmp_path, "-m venv")) == 1


def test_clean_removes_caches_and_environment_and_keeps_results(make, tmp_path):
    make("demo")
    for folder in ("results", "storage/__pycache__", ".ruff_cache"):
        (tmp_path / folder).mkdir(parents=True)
    assert make("clean").returncode == 0
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert left == {"stand-in", "storage", "results"}
    assert not list((tmp_path / "storage").iterdir())


@pytest.mark.parametrize(("passing", "asked"), [(True, ["lint", "test"]), (False, ["lint"])])
def test_continuous_integration_lints_then_tests(tmp_path, passing, asked):
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\nexit {0 if passing else 1}\n')
    make.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CI": "true"}
    run = subprocess.run(["bash", ROOT / ".ci/run"], cwd="/", env=environment, check=False)
    assert (run.returncode == 0) is passing
    assert (tmp_path / "calls").read_text().split() == asked
