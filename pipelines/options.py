"""Arguments and options that several commands have.

What drives runs is imported where it is used: help needs none of it.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from pipelines.run.driving import Options

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A campaign file, or a packaged name.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. sampler.draws=50."),
]
Root = Annotated[
    str, typer.Option("--store", metavar="URL", help="Folder or s3:// URL that holds the stores.")
]
StorePath = Annotated[
    str, typer.Argument(metavar="STORE", help="A campaign's folder, as `run` prints it.")
]
Plug = Annotated[
    list[str] | None,
    typer.Option("--plugins", metavar="MODULE", help="Allow code of your own, by module name."),
]
Executor = Annotated[
    Literal["ray", "inline"], typer.Option(help="Where shards run: on Ray, or in this process.")
]
Address = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="A Ray cluster; by default a local one.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers of the local Ray; by default one per core.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where it computes; auto goes on where a campaign began, else on CPUs."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="AXIS=VALUE", help="Only the cells of this value, e.g. width=64."),
]
Pool = Annotated[
    str, typer.Option("--pool", metavar="NAME", help="The Prefect work pool, made by `deploy`.")
]
State = Literal[
    "scheduled", "late", "pending", "running", "paused", "retrying", "awaitingretry",
    "cancelling", "cancelled", "completed", "failed", "crashed",
]  # fmt: skip
Retry = Annotated[
    bool, typer.Option("--retry-failed", help="Also what failed before and would fail again.")
]
Durable = Annotated[
    bool, typer.Option("--durable", help="Force all that is stored to disk, against power cuts.")
]
Every = Annotated[bool, typer.Option("--all", help="Show every cell, and not the first ones.")]


def options_of(
    executor: str,
    address: str | None,
    workers: int | None,
    plugins: list[str] | None,
    only: list[str] | None,
    retry: bool,
    durable: bool,
    device: str,
) -> "Options":
    """`driving.Options`. CampaignError where they do not go together."""
    from pipelines.run.driving import Options
    from storage.errors import CampaignError

    if executor == "inline" and (address or workers):
        raise CampaignError("--address and --workers belong to --executor ray; leave them out")
    return Options(
        executor,
        address,
        workers,
        tuple(plugins or ()),
        tuple(only or ()),
        retry,
        durable,
        device=device,
    )
