"""A Prefect server of the user's own, on loopback, for the length of a run or longer."""

import base64
import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from storage.errors import CampaignError

HOST = "127.0.0.1"
FIRST_PORT = 4200  # of Prefect
PR_SET_PDEATHSIG = 1  # of Linux
START = 120  # seconds; a fresh database on a busy machine needs its time
CONNECT = 10  # seconds
ATTEMPTS = 3  # at a port that is free, which another run may take first
LOG = "server.log"
KEY = "password"  # the file that holds that of the last server

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PYTHONIOENCODING": "utf-8",  # of its log, whatever that of the terminal is
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",  # the UI has the log, the terminal a bar
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def home(root: str) -> Path:
    """Where the server keeps its database: beside the stores, or with the user for remote ones."""
    if "://" in root:
        return Path.home() / ".finitewidth" / "prefect"
    return Path(root).resolve() / ".prefect"


@dataclass(frozen=True)
class Server:
    """A server that answers, to whoever has its password."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    password: str
    host: str = HOST

    def __str__(self) -> str:
        """Its address; the password of one for others is not to be seen, as in a log of theirs."""
        where = f"is {self.password}" if self.host == HOST else f"is in {self.folder / KEY}"
        return f"http://{self.host}:{self.port} (the password {where})"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of those who talk to it."""
        return environment(self.folder, self.port, self.password, self.host)


def environment(folder: Path, port: int, password: str, host: str = HOST) -> dict[str, str]:
    """The environment of a server and of those who talk to it.

    A server answers to the password of its run, and in a browser to its own pages alone. A key of
    Prefect Cloud would be sent in the password's place.
    """
    address = f"http://{host}:{port}"
    inherited = {key: value for key, value in os.environ.items() if key != "PREFECT_API_KEY"}
    return {
        **inherited,
        **ENVIRONMENT,
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_API_AUTH_STRING": password,
    }


def start(
    folder: Path, port: int | None = None, *, survive: bool = False, host: str = HOST
) -> Server:
    """Start a server in a process group of its own and wait until it answers.

    One on another address than loopback keeps its password and its port from start to start, since
    others know them; PREFECT_SERVER_API_AUTH_STRING may name the password.

    Unless it is to survive this process, it ends with it, even where this process is killed. Its
    database, its log and its password are for this user alone.
    """
    if port is not None or host != HOST:
        return _started(folder, port or FIRST_PORT, survive, host)
    for _ in range(ATTEMPTS - 1):
        with suppress(_TakenError):
            return _started(folder, free_port(), survive, host)
    return _started(folder, free_port(), survive, host)


class _TakenError(CampaignError):
    """Somebody else has taken the port in the meantime."""


def _started(folder: Path, port: int, survive: bool, host: str) -> Server:
    _make_private(folder)
    password = _password(folder, keep=host != HOST)
    (folder / KEY).write_text(f"{password}\n")
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        host,
        "--port",
        str(port),
    ]
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            env=environment(folder, port, password, host),
            umask=0o077,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=None if survive else _end_with_parent,
        )
    try:
        _wait(process, host, port, password, folder)
    except BaseException:
        stop(process)
        raise
    return Server(process, folder, port, password, host)


def _password(folder: Path, keep: bool) -> str:
    """A new one for each start; one to keep is that of the environment, or of the last start."""
    known = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or (folder / KEY).read_text().strip()
    return known if keep and known else f"finitewidth:{secrets.token_hex(8)}"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name in (LOG, KEY):
            (folder / name).touch(mode=0o600)
            (folder / name).chmod(0o600)  # of an earlier run
    except OSError as error:
        raise CampaignError(
            f"{folder} cannot hold the database of a Prefect server ({error.strerror}); choose "
            "another --store, or leave --ui out"
        ) from None


def _end_with_parent() -> None:
    """In the child: ask Linux for a SIGTERM when the parent dies; others cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(
    process: subprocess.Popen[bytes], host: str, port: int, password: str, folder: Path
) -> None:
    """Until it answers to its password; what answers to another one is not ours."""
    deadline, log = time.monotonic() + START, folder / LOG
    address, key = f"http://{host}:{port}", base64.b64encode(password.encode()).decode()
    ask = urllib.request.Request(  # noqa: S310  ours
        f"{address}/api/admin/version", headers={"Authorization": f"Basic {key}"}
    )
    while time.monotonic() < deadline:
        if process.poll() is not None:
            ended = f"the Prefect server ended with status {process.returncode}; see {log}"
            raise CampaignError(ended) if _is_free(port) else _TakenError(ended)
        try:
            urllib.request.urlopen(ask, timeout=2).close()  # noqa: S310  ours
            return
        except urllib.error.HTTPError as error:
            if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise _TakenError(f"somebody else's Prefect server is at {address}") from None
        except (urllib.error.URLError, OSError):
            pass  # it has not begun to listen
        time.sleep(0.3)
    raise CampaignError(f"the Prefect server did not answer in {START} s; see {log}")


def shown(url: str) -> str:
    """An address without the password that may be in it."""
    return re.sub(r"//[^/]*@", "//", url)


def check(url: str, advice: str = "start one there, unset PREFECT_API_URL, or add --ui") -> None:
    """CampaignError where no server answers at PREFECT_API_URL."""
    try:
        address = f"{url.rstrip('/')}/health"
        urllib.request.urlopen(address, timeout=CONNECT).close()  # noqa: S310  the user's own
    except urllib.error.HTTPError:
        return  # somebody answers; what Prefect makes of it is for Prefect to say
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CampaignError(
            f"no Prefect server answers at PREFECT_API_URL={shown(url)} ({reason}); {advice}"
        ) from None


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
        return


@contextmanager
def local_server(root: str, keep: bool) -> Iterator[Server]:
    """A server while the block runs, its address set for Prefect; left running when asked to."""
    server = start(home(root), survive=keep)
    before, within = dict(os.environ), server.environment
    os.environ.clear()
    os.environ.update(within)
    try:
        yield server
    finally:
        os.environ.clear()
        os.environ.update(before)
        if not keep:
            stop(server.process)


def free_port() -> int:
    """A port of loopback that nobody uses now, away from those that Ray takes."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        if _is_free(port):
            return port
    raise CampaignError("no free port between 4200 and 4299 on loopback; close a server there")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
