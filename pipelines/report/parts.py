"""Parts of a report that stand alone: one that fails is left out, and a line says so."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from storage.errors import in_one_line

LONGEST_REASON = 200  # characters of a reason


@contextmanager
def part(what: str, left_out: list[str]) -> Iterator[None]:
    """Make one part; where that fails, add the line that names it and the reason.

    Whatever is raised is taken, here and nowhere else in the report: a part is made of numbers in
    shapes that nobody has foreseen, by libraries that raise what they like, after hours of
    sampling. The other parts say what they have to say without it. Nothing is written inside, so
    that a disk that is full is not taken for a picture that fails.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001
        left_out.append(f"{what} could not be made and is left out: {reason(error)}")


def reason(error: Exception) -> str:
    """The error on one line."""
    text = in_one_line(error).removesuffix(":")
    shown = text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
    return shown.rstrip(".") + "."


def tell(left_out: Iterable[str]) -> None:
    """The lines, on standard error."""
    for line in left_out:
        print(line, file=sys.stderr, flush=True)  # noqa: T201
