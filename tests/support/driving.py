"""The smallest campaign, driven here or in a process of its own, and what it leaves behind.

As a script, `driving.py ROOT EXECUTOR WORKERS [KEY=VALUE ...]` simulates it as `run` would.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipelines.engine import engine
from pipelines.run import driving
from storage.campaign.spec import Campaign
from storage.reading.document import read
from workers.shard import Outcome

HERE = Path(__file__).parent
SMALL = HERE / "small.yaml"
PLUGIN = "plugin"  # a module beside this one, which is where driver and workers find it
PATIENCE = 240  # seconds that anything may take on a busy machine
MARK = "FINITEWIDTH_TEST_TREE"  # an environment variable is inherited by whoever is started


def small(*overrides: str) -> Campaign:
    """The smallest campaign, changed as `--set` would."""
    return read(SMALL, overrides)


def prepared(root: object, *overrides: str) -> engine.Prepared:
    """The smallest campaign in a folder of stores."""
    return engine.prepare(small(*overrides), str(root), [PLUGIN])


def simulate(campaign: engine.Prepared, computed: Any = None) -> list[Outcome]:
    """Run what is left of a campaign in this process."""
    with engine.drive(campaign, engine.Inline(), computed=computed) as driven:
        return [outcome for wave in driven.left for outcome in driven.run(wave)]


def contents(folder: object) -> dict[str, bytes]:
    """Every file below a folder."""
    top = Path(str(folder))
    files = (path for path in sorted(top.rglob("*")) if path.is_file())
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


def unlike(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of the files in which two folders differ, since their bytes would fill pages."""
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def _hears_signals() -> None:
    """As from a terminal: what runs in the background may have inherited to ignore them."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


class Tree:
    """A process and all that it starts, known by a mark that they inherit."""

    def __init__(self, *arguments: object, **environment: object) -> None:
        self._mark = uuid.uuid4().hex
        added = {name: str(value) for name, value in environment.items()}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=HERE,
            env=os.environ | added | {MARK: self._mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hears_signals,
        )

    def living(self) -> list[psutil.Process]:
        """Those that are not dead yet, whoever their parent is by now."""
        return [each for each in psutil.process_iter() if _mark(each) == self._mark]

    def kill(self) -> None:
        """SIGKILL to all of them, until none is left."""
        while living := self.living():
            for each in living:
                each.send_signal(signal.SIGKILL)
            psutil.wait_procs(living, timeout=1)
        self.process.communicate()

    def finish(self) -> str:
        """What it printed, once it has ended by itself and well."""
        printed, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, printed
        return printed


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def main(root: str, executor: str, workers: str, *overrides: str) -> None:
    """Simulate, in the way of the command line."""
    options = driving.Options(executor, workers=int(workers) if executor == "ray" else None)
    with driving.driving(prepared(root, *overrides), options) as (driven, progress):
        driving.simulate(driven, progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
