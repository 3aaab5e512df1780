"""Where tests run: a home of their own, so that nothing of the user's is read or written."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ["support.bucket"]

FOREIGN = ("RAY_", "PREFECT_", "AWS_", "FINITEWIDTH_")  # settings of whoever runs the tests
KEPT = "FINITEWIDTH_MNIST"  # the folder of images that some tests read
WAITING = ("ray", "prefect")  # markers of tests that wait more than they compute
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TRITON_INTERPRET": "1",  # kernels for GPUs run by numpy
}

_place = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported, since Ray and Prefect read some of this on import."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name != KEPT]:
        del os.environ[name]
    place = config.stash[_place] = Path(tempfile.mkdtemp(prefix="fwt"))
    (place / "home").mkdir()
    os.environ |= SETTINGS | {
        "HOME": str(place / "home"),
        "PREFECT_HOME": str(place / "prefect"),
        "RAY_TMPDIR": str(place),
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files whose tests wait for servers over the first half of all files.

    Beside each of them others compute, and none is left alone at the end.
    """
    files = dict.fromkeys(item.path for item in items)
    waiting = {item.path for item in items if any(map(item.get_closest_marker, WAITING))}
    apart = len(files) / (2 * max(len(waiting), 1))
    places = {path: i * apart for i, path in enumerate(path for path in files if path in waiting)}
    places |= {path: i for i, path in enumerate(path for path in files if path not in waiting)}
    items.sort(key=lambda item: places[item.path])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that home."""
    if (place := config.stash.get(_place, None)) is not None:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def finitewidth(monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder: exit status, standard output and standard error."""
    from pipelines import cli

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["finitewidth", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    return command


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """A campaign with three of four shards finished, to be left as it is."""
    from storage.store.store import Store
    from support.fake_shards import finish_most

    store = Store(str(tmp_path_factory.mktemp("partial") / "campaign"))
    finish_most(store)
    return store


@pytest.fixture
def store(partial, tmp_path):
    """A copy of `partial`."""
    from storage.store.store import Store

    shutil.copytree(partial.url, tmp_path / "campaign")
    return Store(str(tmp_path / "campaign"))


@pytest.fixture
def library() -> None:
    """The kernels that are compiled."""
    from workers.fused import build

    if why := build.unavailable():
        pytest.skip(why)


@pytest.fixture
def short(monkeypatch) -> Iterator[Path]:
    """A folder for temporary files with a path short enough for a socket below it."""
    folder = Path(tempfile.mkdtemp(prefix="fwt", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
