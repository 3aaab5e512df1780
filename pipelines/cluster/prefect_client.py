"""Talking to the Prefect server of the environment, with one line for whatever goes wrong."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from pipelines.run import server
from storage.errors import CampaignError

UNAUTHORIZED = (401, 403)
ADVICE = "start one with `finitewidth ui`, or set PREFECT_API_URL to the address of yours"


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of the server that PREFECT_API_URL or the Prefect profile names.

    Raises CampaignError where none is named, none answers, or the password is not the server's.
    """
    url = get_current_settings().api.url
    if not url:
        raise CampaignError(f"found no Prefect server to talk to; {ADVICE}")
    server.check(url, ADVICE)
    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise CampaignError(_refusal(server.shown(url), error)) from None
    except httpx.HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CampaignError(
            f"the Prefect server at {server.shown(url)} stopped answering ({reason}); try again"
        ) from None


def _refusal(url: str, error: PrefectHTTPStatusError) -> str:
    status = error.response.status_code
    if status not in UNAUTHORIZED:
        said = " ".join(re.sub(r"\s+", " ", error.response.text).split()[:40])
        return f"the Prefect server at {url} refused with status {status}: {said}"
    if os.environ.get("PREFECT_API_KEY"):
        return f"the Prefect server at {url} takes no PREFECT_API_KEY; unset that variable"
    return (
        f"the Prefect server at {url} refuses this password; set PREFECT_API_AUTH_STRING to the "
        "user:password that it was started with"
    )
