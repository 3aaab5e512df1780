"""One measurement in a process of its own: CPU seconds, peak memory, and what it says of itself."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


def measure(python: str, script: str, *arguments: object) -> dict[str, Any]:
    """What a script prints last, as JSON; {"absence": why} where it does not get that far."""
    command = [python, str(HERE / script), *map(str, arguments)]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD
        )
    except OSError as error:
        return {"absence": str(error)}
    if ended.returncode:
        complaint = ended.stderr.strip().splitlines()
        return {"absence": complaint[-1] if complaint else f"it ended with {ended.returncode}"}
    return json.loads(ended.stdout.splitlines()[-1])


def in_turns(
    names: Iterable[str], rounds: int, run: Callable[[str, int], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """What each contestant says in each round, (name, round); who is absent is asked once."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name, its in found.items():
            if not its or "absence" not in its[0]:
                its.append(run(name, turn))
                print(name, its[-1], file=sys.stderr, flush=True)
    return found


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(packages: list[str], **values: object) -> None:
    """Print the values, with the peak memory in MiB, unless it is among them, and the versions."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    print(json.dumps({"peak": peak(), **values, "version": versions}))
