"""What SIGTERM does to a run, and SIGUSR1, which Slurm can be told to send before its limit.

While shards are computed, what runs is finished first, within `pool.GRACE` seconds; at any other
time the run ends at once. Either way the same command goes on.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from workers.cluster.pool import GRACE

DRAINED = 75  # exit status: EX_TEMPFAIL of sysexits.h, as for what is worth another try
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
MARGIN = 2.0  # seconds that an executor may take beyond the grace time before it is interrupted

Handler = Callable[[int, FrameType | None], object]


class Drained(SystemExit):
    """The run was told to end, and has; the same command goes on."""

    def __init__(self, message: str = "") -> None:
        super().__init__(DRAINED)
        self.message = message


@contextmanager
def ending() -> Iterator[None]:
    """The signals end what is inside by `Drained`."""

    def end(number: int, _: object) -> None:
        raise Drained(signal.Signals(number).name)

    with _handling(end):
        yield


@contextmanager
def draining(stop: threading.Event) -> Iterator[None]:
    """The first signal sets `stop`; a second one, or time, does what signals did before."""
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(GRACE + MARGIN, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True

    def drain(number: int, frame: object) -> None:
        if not stop.is_set():
            stop.set()
            timer.start()
        elif callable(before):
            before(number, frame)  # type: ignore[arg-type]
        else:
            raise Drained(signal.Signals(number).name)

    try:
        with _handling(drain):
            yield
    finally:
        timer.cancel()


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Python handles signals in its main thread alone; elsewhere they stay as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.signal(sign, handler) for sign in SIGNALS}
    try:
        yield
    finally:
        for sign, old in before.items():
            signal.signal(sign, old)
