"""Standard output and error as they are: without Greek letters, closed by a reader, or full."""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def accept_all_characters() -> None:
    """Print a question mark for what the encoding of the terminal does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def quiet_libraries() -> None:
    """Warnings of libraries are for who programs with them: none here, nor from workers."""
    if not sys.warnoptions:  # else they were asked for
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"


@contextmanager
def flushed() -> Iterator[None]:
    """What was printed is written when the block ends: a failure is raised where it is handled."""
    try:
        yield
    finally:
        if sys.stdout is not None:  # closed before this process began
            sys.stdout.flush()


def mute() -> None:
    """Nobody takes standard output any more: what is left of it goes nowhere."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
