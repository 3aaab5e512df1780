"""A folder of the user's with the name of one of our packages is answered in one clear line."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.shadow import OURS, PACKAGES, shadowing


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, which `python -c` looks into before all others."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(params=PACKAGES)
def package(request) -> str:
    return request.param


@pytest.fixture(params=["{}/__init__.py", "{}.py"], ids=["package", "module"])
def file(request, package, tmp_path) -> Path:
    """Something of the user's that Python finds first."""
    path = tmp_path / request.param.format(package)
    path.parent.mkdir(exist_ok=True)
    path.write_text('"""Nothing of ours."""\n')
    return path


def line(package: str, file: Path) -> str:
    return (
        f"found the package {package} in {file}, which hides the one of finitewidth in {OURS}; "
        "start from another folder, or rename that one"
    )


def test_nothing_is_hidden_here():
    assert shadowing() is None


def test_the_command_line_says_what_hides_what(package, file, tmp_path):
    ended = python("from pipelines.cli import main; main()", tmp_path)
    assert ended.returncode == 2
    assert (ended.stdout, ended.stderr) == ("", f"finitewidth: {line(package, file)}\n")


def test_a_notebook_is_told_as_well(package, file, tmp_path):
    ended = python("from pipelines.engine import run", tmp_path)
    assert ended.stderr.splitlines()[-1] == f"ImportError: {line(package, file)}"


def test_a_folder_that_is_no_package_harms_nobody(package, tmp_path):
    (tmp_path / package).mkdir()
    ended = python("import pipelines.engine.engine; print(pipelines.shadow.shadowing())", tmp_path)
    assert (ended.stdout, ended.stderr) == ("None\n", "")
