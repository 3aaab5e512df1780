"""What a stage is doing at the moment, for whoever listens; most of the time nobody does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, float], None]

_listeners: list[Listener] = []


def tell(what: str, place: int, of: int) -> None:
    """Something begins that is one of many, counted from 0: `nngp`, 3, 8."""
    for listener in _listeners:
        listener(f"{what} {place + 1} of {of}", place / max(of, 1))


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Call a listener with what is done, and which part of the stage is done by then."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
