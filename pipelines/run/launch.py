"""Runs from the command line: with or without Prefect, and what is printed at the end.

Prefect and the report are imported where they are used: they take seconds.
"""

import os
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipelines.engine import stages
from pipelines.engine.engine import Prepared, allowed_plugins
from pipelines.run import driving, server
from pipelines.run.draining import ending
from storage.campaign.plugins import allow
from storage.errors import CampaignError, IncompleteError
from storage.store.holding import held
from storage.store.store import Store

NARROWEST = 40  # columns of a terminal between which sentences are broken


def launch(prepared: Prepared, options: driving.Options, ui: bool, keep: bool) -> None:
    """Run a campaign to its end and say where its results are.

    It runs as a Prefect flow where a server is asked for or named by PREFECT_API_URL, and by the
    engine alone otherwise.
    """
    try:
        with _unwinding(), ending(), ExitStack() as stack:
            if ui:
                _say("starting a Prefect server")
                started = stack.enter_context(server.local_server(prepared.root, keep))
                _say(f"watch the run at {started}")
            _run(prepared, options)
    except (KeyboardInterrupt, SystemExit):
        _say("stopped; what is finished is kept, and the same command goes on")
        raise
    except IncompleteError:
        _results(prepared, keep, ui)
        raise
    _results(prepared, keep, ui)


def _run(prepared: Prepared, options: driving.Options) -> None:
    if url := os.environ.get("PREFECT_API_URL"):
        server.check(url)
        from pipelines.run import flows

        flows.run(prepared, options)
        return
    with driving.driving(prepared, options) as (driven, progress):
        driving.simulate(driven, progress)
        driving.analyze(driven, progress)


@contextmanager
def _unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind as Ctrl-C does, so that the lease, Ray and a server end as well."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signs = [sign for sign in (signal.SIGTERM, signal.SIGHUP) if _is_default(sign)]
    for sign in signs:
        signal.signal(sign, end)
    try:
        yield
    finally:
        for sign in signs:
            signal.signal(sign, signal.SIG_DFL)


def _is_default(sign: signal.Signals) -> bool:
    return signal.getsignal(sign) == signal.SIG_DFL


def _results(prepared: Prepared, keep: bool, ui: bool) -> None:
    from pipelines.report.sentences.conclusions import OPEN_SENTENCES, conclusions
    from pipelines.report.sentences.extent import not_shown
    from storage.backend.reader import open_cells
    from storage.store.results import stored_plan

    store = prepared.store
    _say("")
    lines = conclusions(open_cells(store.url))
    for line in [*lines[:OPEN_SENTENCES], *not_shown(stored_plan(store))]:
        _say(_wrapped(line))
    if len(lines) > OPEN_SENTENCES:
        _say(f"  ({len(lines) - OPEN_SENTENCES} more in the report)")
    _say("")
    _say(f"report  {store.url}/report/report.html")
    _say(f"store   {store.data}")
    again = f"finitewidth ui --store {shlex.quote(prepared.root)}"
    if keep:
        _say(f"UI      left running; its process and password are in {server.home(prepared.root)}")
    elif ui:
        _say(f"UI      {again}")
    else:
        _say("UI      none was started; add --ui to watch a run in Prefect")


def again(store: Store, plugins: Sequence[str]) -> None:
    """The stages after the simulation, on what is stored."""
    found = allow(store.specs()[-1], allowed_plugins(plugins), Path.cwd())
    with held(store) as (fenced, _):
        stages.all_in_order(lambda name: stages.run(name, fenced, found), tell=_say)
    _say(f"report  {store.url}/report/report.html")


def show_ui(root: str, port: int | None, host: str) -> None:
    """The Prefect UI of past runs, until Ctrl-C; others reach it unless it is on loopback."""
    if host == server.HOST and not server.home(root).is_dir():
        raise CampaignError(
            f"{root}: no runs are recorded here; give the --store of a `finitewidth run --ui`, or "
            "--host for a server that others use"
        )
    started = server.start(server.home(root), port, host=host)
    _say(f"{started}; Ctrl-C ends it")
    try:
        with _unwinding(), suppress(KeyboardInterrupt):
            started.process.wait()
    finally:
        server.stop(started.process)


def _wrapped(line: str) -> str:
    """A bullet; on a terminal it is broken between words and indented."""
    if not sys.stdout.isatty():
        return f"- {line}"
    width = max(shutil.get_terminal_size().columns, NARROWEST)
    return textwrap.fill(line, width, initial_indent="- ", subsequent_indent="  ")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201
