"""What the groups `theory/<name>` of ensembles and of regressions share: names and error lines."""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import CampaignError
from storage.plan import Cell


def group_name(theory: str) -> str:
    """The group of a theory; a plug-in's is my_mod_predict for my.mod:predict."""
    return f"theory/{theory.replace('.', '_').replace(':', '_')}"


@contextmanager
def explained(theory: str, cell: Cell, what: str) -> Iterator[None]:
    """Turn whatever a theory raises into the line that a user sees."""
    try:
        yield
    except CampaignError:
        raise
    except Exception as error:  # a plug-in may raise anything
        settings = ", ".join(f"{path} {value}" for path, value in cell.settings.items())
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise CampaignError(
            f"{theory} failed for {what} of the cell {settings or cell.key}: {problem}; "
            "put it right, or take it out of theories"
        ) from error
