"""What `plan` says that a run takes, and what it takes: CPU seconds of each part.

    python tests/benchmarks/bench_plan.py [[--ray] CAMPAIGN [KEY=VALUE ...]]

prints a row of the table for a campaign, run in this process as with `--executor inline`, or with
--ray as `finitewidth run` does by default, where all of it alone is told. Without a campaign all
rows are measured, and PLAN.md is written.
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
ROWS = (  # packaged campaigns, at sizes that take a minute or two
    "quickstart",
    "--ray quickstart",
    "langevin-exact sampler.draws=20 sampler.segment=20 sampler.warmup=50",
    "three-layer ensemble.datasets=1 sampler.draws=60",
    "staircase ensemble.datasets=1",
    "width-transfer ensemble.datasets=1",
    "relu-abs ensemble.datasets=1 sampler.draws=60",
    "linear-cnn ensemble.datasets=1",
    "erf-cnn ensemble.datasets=1 sampler.draws=80",
    "preactivations sampler.draws=60",
    "grokking ensemble.datasets=1 sampler.draws=50",
    "erf-d50 ensemble.datasets=1 sampler.draws=50 sampler.segment=50",
    "adaptive-erf ensemble.datasets=1 sampler.draws=50 sampler.segment=50",
    "learning-curves-digits regression.repeats=4",
    "power-law regression.repeats=2",
    "position-dependent-ridge regression.repeats=5",
    "double-descent regression.repeats=8",
    "correlator-flow",
    "criticality-map",
    "random-functions",
    "width-corrections",
    "trainability-digits",
    "trainability-networks sampler.draws=60",
    "ntk-to-nngp",
    "mean-field-dynamics",
)
TEXT = """# What `plan` says and what a run takes

Written by `python tests/benchmarks/bench_plan.py`. Core-seconds of packaged campaigns, with the
settings that make them short: as `plan` says them, as they were spent by the process, and the
ratio of the two; then each part, said/spent. Campaigns that need files (`gfl-cifar`,
`learning-curves-mnist`, `learning-curves-cifar10`, `trainability-mnist`) are not run.

| campaign | said | spent | ratio | parts |
| --- | ---: | ---: | ---: | --- |
"""


def prepared(name, overrides, root):
    from pipelines.commands.packaged import find
    from pipelines.engine import engine
    from storage.reading.document import read

    return engine.prepare(read(find(name), overrides), root)


def said(campaign):
    from pipelines.estimates.costs import costs
    from pipelines.estimates.speeds import Speeds

    return costs(campaign, campaign.plan, Speeds())


def spent(campaign):
    """CPU seconds of each part of a run in this process; what it has spent so far is its start."""
    from pipelines.engine import engine, stages

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


def everything():
    """Measure all rows, each in a process of its own, and write the table."""
    rows = []
    for row in ROWS:
        command = [sys.executable, __file__, *row.split()]
        rows.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(rows[-1], end="", flush=True)
    Path(__file__).with_name("PLAN.md").write_text(TEXT + "".join(rows))


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
    campaign = f"`{name}` {settings}".strip()
    print(f"| {campaign} | {total:.1f} | {took:.1f} | {total / took:.2f} | {parts} |")


def print_said(name, *overrides):
    found = said(prepared(name, overrides, str(Path(tempfile.gettempdir()) / "nowhere")))
    parts = [found.start, found.simulation({}), *found.stages.values()]
    print(*parts, found.total({}, len(os.sched_getaffinity(0)))[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--said"]:
        print_said(*sys.argv[2:])
    elif not sys.argv[1:]:
        everything()
    else:
        main(sys.argv[1:])
