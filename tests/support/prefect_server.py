"""Asking a Prefect server what it knows."""

import base64
import json
import urllib.request
from http.client import HTTPResponse
from typing import Any

from pipelines.run.server import Server


def answer(
    server: Server, what: str, password: str, filters: dict[str, Any], **headers: str
) -> HTTPResponse:
    """The server's answer to a question."""
    known = base64.b64encode(password.encode()).decode()
    headers |= {"Content-Type": "application/json", "Authorization": f"Basic {known}"}
    address = f"http://127.0.0.1:{server.port}/api/{what}"
    request = urllib.request.Request(address, json.dumps(filters).encode(), headers)
    return urllib.request.urlopen(request, timeout=30)


def ask(server: Server, what: str, **filters: Any) -> Any:
    """What the server knows."""
    where = what if "/" in what else f"{what}/filter"
    with answer(server, where, server.password, filters) as found:
        return json.load(found)
