"""The one exception that a user is meant to see, and how others become it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CampaignError(Exception):
    """What a user can put right, in one line: what was found, what was wanted, what to do."""


class IncompleteError(CampaignError):
    """Shards failed; the rest of the campaign was run to its end."""


class UnreachableError(CampaignError):
    """A place that this machine cannot read or write now; another may have better luck."""


def in_one_line(error: Exception) -> str:
    """`ZeroDivisionError: division by zero`, whatever lines the error has."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def refused(line: Callable[[str], str]) -> Iterator[None]:
    """Make whatever is raised inside, as by code of the user's, the CampaignError of its line."""
    try:
        yield
    except CampaignError:
        raise
    except Exception as error:
        raise CampaignError(line(in_one_line(error))) from error


def damaged(url: str, name: str, error: Exception) -> CampaignError:
    """What to say of an object of data.zarr, the hierarchy at `url`, that means nothing."""
    store = url.removesuffix("/data.zarr")
    return CampaignError(
        f"{url}/{name} is damaged ({in_one_line(error)[:80]}); clear it with "
        f"`finitewidth verify --repair {store}` and run the campaign again, or, where it is "
        f"of a theory or fit, `finitewidth predict {store}`"
    )
