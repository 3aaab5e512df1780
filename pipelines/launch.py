"""Runs from the command line: with or without Prefect, and what is printed at the end."""

import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pipelines import server, stages
from pipelines.engine import Prepared, allowed_plugins
from storage.lease import acquire
from storage.plugins import allow
from storage.store import Store


def launch(prepared: Prepared, options: stages.Options, ui: bool, keep: bool) -> None:
    """Run a campaign to its end and say where its results are.

    It runs as a Prefect flow where a server is asked for or named by PREFECT_API_URL, and by the
    engine alone otherwise.
    """
    with ExitStack() as stack:
        if ui:
            _say("starting a Prefect server")
            address = stack.enter_context(server.local_server(prepared.root, keep))
            _say(f"watch the run at {address}")
        if ui or os.environ.get("PREFECT_API_URL"):
            from pipelines import flows

            flows.run(prepared, options)
        else:
            with stages.driving(prepared, options) as (driven, progress):
                stages.simulate(driven, progress)
                for name in stages.STAGES:
                    progress.stage(name)
                    stages.STAGES[name](driven.store, prepared.plugins)
    _results(prepared, keep, ui)


def _results(prepared: Prepared, keep: bool, ui: bool) -> None:
    from pipelines.conclusions import conclusions
    from storage.reader import open_campaign

    store = prepared.store
    _say("")
    for line in conclusions(open_campaign(store.url)):
        _say(f"- {line}")
    _say("")
    _say(f"report  {store.url}/report/report.html")
    _say(f"store   {store.data}")
    again = f"finitewidth ui --store {shlex.quote(prepared.root)}"
    if keep:
        _say(f"UI      left running; its process and address are in {server.home(prepared.root)}")
    elif ui:
        _say(f"UI      {again}")
    else:
        _say("UI      none was started; add --ui to watch a run in Prefect")


def again(store: Store, plugins: Sequence[str]) -> None:
    """The stages after the simulation, on what is stored."""
    found = allow(store.specs()[-1], allowed_plugins(plugins), Path.cwd())
    with acquire(store.objects):
        for name in stages.STAGES:
            _say(name)
            stages.STAGES[name](store, found)
    _say(f"report  {store.url}/report/report.html")


def check(store: Store, repair: bool) -> bool:
    """Check every finished shard; whether all are sound, or were cleared."""
    from storage import verify

    bad = verify.verify(store)
    for name, reason in bad:
        _say(f"bad: {name}: {reason}")
    if bad and repair:
        with acquire(store.objects):
            verify.repair(store, [name for name, _ in bad])
        _say(f"{len(bad)} shards cleared; `finitewidth run` computes them again")
        return True
    _say("every finished shard is sound" if not bad else f"{len(bad)} bad; add --repair")
    return not bad


def show_ui(root: str, port: int | None) -> None:
    """The Prefect UI of past runs, until Ctrl-C."""
    process, port = server.start(server.home(root), port)
    _say(f"http://{server.HOST}:{port} (Ctrl-C ends it)")
    try:
        process.wait()
    finally:
        server.stop(process)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201
