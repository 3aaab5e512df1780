"""Whatever a user does needs nothing that only the tests install."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.tiny import SPEC

pytestmark = pytest.mark.slow

WITHOUT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
ABSENT = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
from pipelines.cli import main
sys.argv = ["finitewidth", *sys.argv[2:]]
main()
"""


def installed_with(name: str) -> set[str]:
    """A distribution and all that it requires, with the extras that are asked for."""
    found: set[str] = set()
    waiting = [(name, "")]
    while waiting:
        one, extra = waiting.pop()
        found.add(canonicalize_name(one))
        try:
            wanted = [Requirement(line) for line in requires(one) or ()]
        except PackageNotFoundError:  # of another platform
            continue
        for each in wanted:
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                known = canonicalize_name(each.name) in found
                waiting += [(each.name, more) for more in each.extras]
                waiting += [] if known else [(each.name, "")]
    return found


@pytest.fixture(scope="module")
def absent() -> str:
    """Modules of distributions that are here for the tests alone."""
    ours = installed_with("finitewidth")
    assert "h5py" in ours
    assert "arviz" not in ours
    return ",".join(
        module
        for module, names in packages_distributions().items()
        if not {canonicalize_name(name) for name in names} & ours
    )


def test_a_campaign_is_run_and_exported_without_them(absent, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SPEC)
    where = ["--store", tmp_path / "results", "--executor", "inline"]
    command = [sys.executable, "-c", WITHOUT, absent]
    subprocess.run([*command, "run", tmp_path / "tiny.yaml", *where], check=True, timeout=250)
    (store,) = (tmp_path / "results").glob("*-*")
    subprocess.run([*command, "export", store, tmp_path / "paper"], check=True, timeout=250)
    assert [*(tmp_path / "paper").glob("*.nc")]
