"""Evaluating theories where they may fail: a reason to tell, or a line that ends the stage."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

from storage.errors import refused
from storage.planning.plan import AnyCell, Cell

Given = ParamSpec("Given")
Made = TypeVar("Made")

# Equations without a solution, arguments outside what is known, matrices without a factor.
UNSOLVED = (
    ValueError,  # and NumPy's LinAlgError
    ArithmeticError,
    torch.linalg.LinAlgError,  # pyright: ignore[reportPrivateImportUsage]
)


def each(
    evaluate: Callable[[Sequence[AnyCell]], Iterable[Made]], cells: Sequence[AnyCell]
) -> Iterator[Made | str]:
    """What is made of each cell, or why nothing is. Cells that fail together are tried alone."""
    done = 0
    try:
        for made in evaluate(cells):
            yield made
            done += 1
    except UNSOLVED as error:
        if len(cells) == 1:
            yield why(error)
            return
        for cell in cells[done:]:
            yield from each(evaluate, [cell])


def attempt(
    evaluate: Callable[Given, Made], *given: Given.args, **named: Given.kwargs
) -> Made | str:
    """What is made, or why nothing is."""
    try:
        return evaluate(*given, **named)
    except UNSOLVED as error:
        return why(error)


def why(error: Exception) -> str:
    """The reason that is stored where a theory predicts nothing: one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def explained(theory: str, cell: Cell, what: str) -> Iterator[None]:
    """Turn whatever else a theory raises, as a plug-in may, into the line that a user sees."""
    with refused(
        lambda problem: (
            f"{theory} failed for {what} of the cell {cell.words or cell.key}: {problem}; "
            "put it right, or take it out of theories"
        )
    ):
        yield
