"""Who hears of a run beside the people at its terminal: Prometheus, and collectors of logs.

Prometheus is imported where it is used: few runs ask for it.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from pipelines.engine.engine import Drive
from pipelines.run.json_log import logged

if TYPE_CHECKING:
    from pipelines.progress.progress import Listener

METRICS = "FINITEWIDTH_METRICS"  # [host:]port, for flows that a Prefect worker starts
LOG_JSON = "FINITEWIDTH_LOG_JSON"  # 1, likewise


@contextmanager
def listening(
    driven: Drive, metrics: str | None, log_json: bool
) -> Iterator[tuple[list["Listener"], TextIO | None]]:
    """Listeners of a run, and where it speaks to people: None for standard error.

    What is not asked for may be by the environment. CampaignError where metrics have no port.
    """
    listeners: list[Listener] = []
    stream = None
    with ExitStack() as stack:
        if log_json or os.environ.get(LOG_JSON) == "1":
            listeners.append(stack.enter_context(logged(driven.prepared.spec.name)))
            stream = stack.enter_context(open(os.devnull, "w"))
        if place := metrics or os.environ.get(METRICS):
            from pipelines.run.metrics import exported

            listeners.append(stack.enter_context(exported(driven, place)))
        yield listeners, stream
