"""The password of a Prefect server: who chooses it, who may read it, and where it is not shown."""

import os
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.run import server

OWN = "PREFECT_SERVER_API_AUTH_STRING"


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Start servers that do not run: what each would be given as environment and command."""
    given: list[Any] = []

    def popen(command: list[str], **options: Any) -> Any:
        given.append(SimpleNamespace(command=command, **options))
        return SimpleNamespace(pid=0, returncode=None)

    monkeypatch.delenv(OWN, raising=False)
    monkeypatch.setattr(server.subprocess, "Popen", popen)
    monkeypatch.setattr(server, "_wait", lambda *_: None)

    def start(**options: Any) -> tuple[server.Server, Any]:
        return server.start(tmp_path / ".prefect", **options), given[-1]

    return start


def test_a_server_of_ones_own_has_a_new_password_each_time_and_says_it(started):
    one, other = started()[0], started()[0]
    assert one.password != other.password
    assert re.fullmatch(r"finitewidth:[0-9a-f]{16}", one.password)
    assert one.password in str(one)


class _Answers(BaseHTTPRequestHandler):
    status = HTTPStatus.OK

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


class _Refuses(_Answers):
    status = HTTPStatus.UNAUTHORIZED


@pytest.fixture
def ports():
    """Of a server that knows no password of ours, and of one that does."""
    servers = [ThreadingHTTPServer((server.HOST, 0), each) for each in (_Refuses, _Answers)]
    for each in servers:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    yield [each.server_address[1] for each in servers]
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize("ended", [None, 1])
def test_a_port_that_somebody_else_took_in_the_meantime_is_left_to_them(
    ended, ports, monkeypatch, tmp_path
):
    theirs, ours = ports
    found, stopped = iter([theirs, ours]), []
    polls = iter([ended])  # the first one may see that the port is not free, and end
    process = SimpleNamespace(poll=lambda: next(polls, None), returncode=ended)
    monkeypatch.setattr(server, "free_port", lambda: next(found))
    monkeypatch.setattr(server.subprocess, "Popen", lambda *_, **__: process)
    monkeypatch.setattr(server, "stop", stopped.append)
    assert server.start(tmp_path / ".prefect").port == ours
    assert stopped == [process]


def test_a_server_for_others_keeps_its_password_in_a_file_of_its_user_and_does_not_say_it(started):
    one, given = started(host="login1")
    again, _ = started(host="login1")
    assert one.password == again.password == given.env[OWN] == given.env["PREFECT_API_AUTH_STRING"]
    assert one.password not in str(one)
    assert str(one).startswith("http://login1:4200 (the password is in ")
    file = Path(str(one).partition("is in ")[2].rstrip(")"))
    assert file.read_text().strip() == one.password
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert given.command[-4:] == ["--host", "login1", "--port", "4200"]
    assert not [word for word in given.command if one.password in word]
    assert given.env["PREFECT_UI_API_URL"] == "http://login1:4200/api"


def test_the_environment_names_the_password_and_the_database_of_a_server_for_others(
    started, monkeypatch
):
    monkeypatch.setenv(OWN, "lab:chosen")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")
    one, given = started(host="login1")
    assert one.password == given.env[OWN] == "lab:chosen"
    database = given.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert database == "postgresql+asyncpg://db/prefect"


def test_a_server_for_one_run_adds_to_the_environment_and_takes_nothing_away(monkeypatch, tmp_path):
    """Credentials of object stores are among what a run has there."""
    made = server.Server(SimpleNamespace(pid=0), tmp_path, 4200, "a:b")  # type: ignore[arg-type]
    monkeypatch.setattr(server, "start", lambda *_, **__: made)
    monkeypatch.setattr(server, "stop", lambda _: None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    before = dict(os.environ)
    with server.local_server(str(tmp_path), keep=False):
        assert {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "PATH")} == {
            "AWS_ACCESS_KEY_ID": "mine",
            "PATH": before["PATH"],
        }
        assert os.environ["PREFECT_API_AUTH_STRING"] == "a:b"
    assert dict(os.environ) == before
