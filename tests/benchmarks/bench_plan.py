"""What `plan` says that a run takes, and what it takes: CPU seconds of each part.

    python bench_plan.py [--ray] CAMPAIGN [KEY=VALUE ...]

prints a row for the table in PLAN.md. A campaign runs in this process, as with `--executor inline`;
with --ray as `finitewidth run` does by default, and then only all of it is told.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

PARTS = ("start", "simulate", "assess convergence", "predict", "fit", "report")
POLL = 0.2  # seconds


def prepared(name, overrides, root):
    from pipelines import engine
    from pipelines.packaged import find
    from storage.reading import read

    return engine.prepare(read(find(name), overrides), root)


def said(campaign):
    from pipelines.costs import costs
    from pipelines.speeds import Speeds

    return costs(campaign, campaign.plan, Speeds())


def spent(campaign):
    """CPU seconds of each part of a run in this process; what it has spent so far is its start."""
    from pipelines import engine, stages

    seconds = {}
    with engine.drive(campaign, engine.Inline()) as driven:
        seconds["start"] = time.process_time()
        for wave in driven.left:
            assert all(outcome.receipt for outcome in driven.run(wave))
        seconds["simulate"] = time.process_time() - seconds["start"]
        for name, stage in stages.STAGES.items():
            before = time.process_time()
            stage(driven.store, campaign.plugins)
            seconds[name] = time.process_time() - before
    return seconds


def spent_on_ray(name, overrides, root):
    """CPU seconds of the processes of a run, as seen a moment before each ends."""
    import psutil

    code = "from pipelines.cli import main; main()"
    arguments = ["run", name, "--store", root, *(f"--set={each}" for each in overrides)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL)
    seconds = {}
    while process.poll() is None:
        for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]:
            try:
                times = each.cpu_times()
            except psutil.Error:
                continue
            seconds[each.pid] = times.user + times.system
        time.sleep(POLL)
    assert process.returncode == 0
    return sum(seconds.values())


def main(arguments):
    ray = "--ray" in arguments
    name, *overrides = [each for each in arguments if each != "--ray"]
    with tempfile.TemporaryDirectory() as root:
        said_in = subprocess.run(  # in a process of its own, so that the run pays its imports
            [sys.executable, __file__, "--said", name, *overrides],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        expected = dict(zip((*PARTS, "on Ray"), map(float, said_in), strict=True))
        if ray:
            total, took = expected["on Ray"], spent_on_ray(name, overrides, root)
            parts = "on Ray"
        else:
            found = spent(prepared(name, overrides, root))
            took = time.process_time()
            total = sum(expected[part] for part in PARTS)
            parts = ", ".join(f"{each} {expected[each]:.1f}/{found[each]:.1f}" for each in PARTS)
    settings = " ".join(overrides)
    print(f"| `{name}` {settings} | {total:.1f} | {took:.1f} | {total / took:.2f} | {parts} |")


def print_said(name, *overrides):
    found = said(prepared(name, overrides, str(Path(tempfile.gettempdir()) / "nowhere")))
    parts = [found.start, found.simulation({}), *found.stages.values()]
    print(*parts, found.total({}, len(os.sched_getaffinity(0)))[0])


if __name__ == "__main__":
    if sys.argv[1] == "--said":
        print_said(*sys.argv[2:])
    else:
        main(sys.argv[1:])
