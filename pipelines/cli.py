"""The command line. Everything heavy is imported inside the command that needs it."""

import errno
import json
import os
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import TyperException

from pipelines.options import (
    Address,
    Device,
    Durable,
    Every,
    Executor,
    Only,
    Plug,
    Pool,
    Retry,
    Root,
    Set,
    Spec,
    State,
    StorePath,
    Workers,
    options_of,
)

if TYPE_CHECKING:
    from storage.campaign.spec import Campaign
    from storage.store.store import Store

POOL = "campaigns"

app = typer.Typer(
    help="A laboratory for the statistical field theory of finite-width neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INCOMPLETE = 3  # exit status of a run that came to its end without some of its shards

# What a machine may refuse at any place; any other error of the system is a fault of ours.
MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM,
}  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        print(f"finitewidth {metadata.version('finitewidth')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that need no command."""


@app.command("list")
def list_(
    runs_: Annotated[
        bool, typer.Option("--runs", help="Runs on the Prefect server instead, the newest first.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Only runs of campaigns of this name.")] = None,
    state: Annotated[State | None, typer.Option(help="Only runs in this state.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only runs with this tag.")] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="Only runs of this store, or folder of them.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every run, and not the newest ones.")
    ] = False,
) -> None:
    """Packaged campaigns, a line each; or runs on a Prefect server."""
    if runs_:
        from pipelines.cluster.prefect_client import connected
        from pipelines.run import runs
        from pipelines.text import columns

        with connected() as client:
            found = runs.find(client, name, state and state.capitalize(), tag or (), store)
            for line in runs.lines(found, None if every else columns.SHOWN_ROWS):
                print(line)
        return
    if name or state or tag or store or every:
        raise _mistaken("--name, --state, --tag, --store and --all belong to --runs; add it")
    from pipelines.commands.packaged import titles

    for name, title in titles().items():
        print(f"{name:24} {title}")


@app.command()
def plan(
    spec: Spec,
    set_: Set = None,
    store: Root = "results",
    device: Device = "auto",
    plugins: Plug = None,
    every: Every = False,
) -> None:
    """What a run would do: cells, shards, bytes, memory, time. Nothing is written."""
    from pipelines.engine import engine
    from pipelines.estimates.estimate import estimate
    from pipelines.text import columns

    prepared = engine.prepare(_read(spec, set_), store, plugins or ())
    print(estimate(prepared, every, columns.width(), device))


@app.command()
def run(
    spec: Spec,
    set_: Set = None,
    store: Root = "results",
    executor: Executor = "ray",
    address: Address = None,
    workers: Workers = None,
    device: Device = "auto",
    plugins: Plug = None,
    only: Only = None,
    retry: Retry = False,
    durable: Durable = False,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Answer Prometheus there; HOST is loopback."),
    ] = None,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Say how it goes in JSON, a line for each shard.")
    ] = False,
    ui: Annotated[bool, typer.Option("--ui", help="Start a Prefect server for the run.")] = False,
    keep_ui: Annotated[
        bool, typer.Option("--keep-ui", help="Like --ui, and leave the server running.")
    ] = False,
) -> None:
    """Run a campaign here to its end: simulate, predict, fit, report. The same command resumes."""
    from pipelines.engine import engine
    from pipelines.run import launch

    options = options_of(executor, address, workers, plugins, only, retry, durable, device)
    options = replace(options, metrics=metrics, log_json=log_json)
    prepared = engine.prepare(_read(spec, set_), store, options.plugins, durable)
    launch.launch(prepared, options, ui=ui or keep_ui, keep=keep_ui)


@app.command()
def deploy(pool: Pool = POOL) -> None:
    """Make a Prefect work pool, if it is not there, and have its workers run what is submitted."""
    from pipelines.cluster.deployment import deploy

    print(f"deployed {deploy(pool)}")
    print(f"start a worker where the work is to be done: prefect worker start --pool {pool}")


@app.command()
def submit(
    spec: Spec,
    set_: Set = None,
    store: Root = "results",
    pool: Pool = POOL,
    executor: Executor = "ray",
    address: Address = None,
    workers: Workers = None,
    device: Device = "auto",
    plugins: Plug = None,
    only: Only = None,
    retry: Retry = False,
    durable: Durable = False,
) -> None:
    """Have the workers of a Prefect pool run a campaign, and return. The same command resumes."""
    from pipelines.cluster.submit import submit
    from pipelines.engine import engine

    options = options_of(executor, address, workers, plugins, only, retry, durable, device)
    prepared = engine.prepare(_read(spec, set_), store, options.plugins, durable)
    submit(prepared, options, pool)


@app.command()
def cancel(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A store, a campaign's name, or a run's id.")
    ],
) -> None:
    """Stop a submitted campaign, and wait until it has; what is finished is kept."""
    from pipelines.cluster.submit import cancel

    cancel(what)


@app.command()
def status(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="A campaign's folder, or its name on the server."),
    ],
    every: Every = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until the run ends, or Ctrl-C.")
    ] = False,
) -> None:
    """What is finished, running, failed and converged, read from the store alone."""
    from pipelines.commands.status import status, watched
    from pipelines.text import columns

    found = _submitted(store) or _open(store)
    if watch:
        columns.show(watched(found, every, columns.width()))
    else:
        print(status(found, every, columns.width()))


@app.command()
def predict(store: StorePath, plugins: Plug = None) -> None:
    """Compute theories, convergence, fits and the report anew on what is stored."""
    from pipelines.run import launch

    launch.again(_open(store), plugins or ())


@app.command()
def report(store: StorePath) -> None:
    """Write the page with the pictures anew."""
    from pipelines.report.html import write_report

    print(write_report(_open(store)))


@app.command()
def export(
    store: StorePath,
    folder: Annotated[Path, typer.Argument(help="Where to put the files.")] = Path("export"),
) -> None:
    """Write what a paper needs: figures whole and by the column, data, tables and the methods."""
    from pipelines.report.export import export

    for path in export(_open(store), folder):
        print(path)


@app.command()
def verify(
    store: StorePath,
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring back what has copies, clear what a run remakes.")
    ] = False,
) -> None:
    """Check all that is stored against what was written: shards, metadata, specs, results."""
    from pipelines.commands.checking import check

    if not check(_store(store), repair):
        raise SystemExit(1)


@app.command()
def schema() -> None:
    """The JSON schema of a campaign, for editors."""
    from storage.reading.document import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def download(
    name: Annotated[Literal["mnist", "cifar10"], typer.Argument(help="Which data set.")],
    folder: Annotated[Path | None, typer.Argument(help="By default your cache.")] = None,
) -> None:
    """Download a data set with a known hash, and print the folder to name in a campaign."""
    from workers.data.images.download import download

    print(download(name, folder))


@app.command()
def ui(
    store: Root = "results",
    port: Annotated[int | None, typer.Option(min=1024, max=65535)] = None,
    host: Annotated[
        str, typer.Option(help="Name or address of this machine, for workers and users elsewhere.")
    ] = "127.0.0.1",
) -> None:
    """Bring the Prefect UI of past runs back, or have a server for others, until Ctrl-C."""
    from pipelines.run.launch import show_ui

    show_ui(store, port, host)


def _mistaken(line: str) -> Exception:
    from storage.errors import CampaignError

    return CampaignError(line)


def _read(spec: str, overrides: list[str] | None) -> "Campaign":
    from pipelines.commands.packaged import find
    from storage.reading.document import read

    return read(find(spec), overrides or ())


def _submitted(what: str) -> "Store | None":
    """The store of a campaign that is known to the Prefect server by its name, or a run's id."""
    if "PREFECT_API_URL" not in os.environ or "://" in what or Path(what).exists():
        return None
    from pipelines.cluster.prefect_client import connected
    from pipelines.run import runs

    with connected() as client:
        run = runs.one(client, what)
    print(f"run       {runs.state_of(run)}, {runs.address(run)}")
    return _open(runs.store_of(run) or what)


def _open(url: str) -> "Store":
    """A campaign's store; one line where there is none, or other specs than were written."""
    store = _store(url)
    store.specs()
    return store


def _store(url: str) -> "Store":
    from storage.store.store import Store

    return Store(url.rstrip("/").removesuffix("/data.zarr"))


def main() -> None:
    """Run a command; what a user can put right is one line and exit status 2."""
    try:
        import pipelines.shadow  # noqa: F401  before any of the packages that may be hidden
    except ImportError as error:
        _fail(str(error))
    from pipelines import process
    from pipelines.text import terminal
    from storage.errors import CampaignError, IncompleteError

    terminal.accept_all_characters()
    try:
        process.settle()
        with terminal.flushed():
            raise SystemExit(app(standalone_mode=False) or 0)
    except IncompleteError as error:
        _fail(str(error), INCOMPLETE)
    except CampaignError as error:
        _fail(str(error))
    except BrokenPipeError:  # as in `finitewidth list | head -1`
        terminal.mute()
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in MACHINE:
            raise
        terminal.mute()
        place = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror}{place}; what is finished is kept: put that right and try again")
    except typer.Abort:
        raise SystemExit(130) from None  # Ctrl-C
    except TyperException as error:
        _fail(_usage(error))


def _usage(error: TyperException) -> str:
    """A wrong option or argument in one line; a bare `finitewidth` has shown its help by then."""
    message = getattr(error, "format_message", lambda: str(error))()
    if not message or "\n" in message.strip():
        raise SystemExit(2)
    return f"{message.rstrip('.')}. Try --help."


def _fail(line: str, status: int = 2) -> None:
    print(f"finitewidth: {line}", file=sys.stderr)
    raise SystemExit(status)
