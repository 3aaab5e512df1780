"""A Prefect server of the user's own, on loopback, for the length of a run or longer."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import CampaignError

HOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1  # of Linux
START = 120  # seconds; a fresh database on a busy machine needs its time
CONNECT = 10  # seconds

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


def environment(folder: Path, port: int) -> dict[str, str]:
    """The environment of a server and of those who talk to it."""
    return {
        **os.environ,
        **ENVIRONMENT,
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
    }


def start(
    folder: Path, port: int | None = None, *, survive: bool = False
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server in a process group of its own and wait until it answers.

    Unless it is to survive this process, it ends with it, even where this process is killed.
    """
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            env=environment(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=None if survive else _end_with_parent,
        )
    try:
        _wait(process, port, folder)
    except BaseException:
        stop(process)
        raise
    return process, port


def _end_with_parent() -> None:
    """In the child: ask Linux for a SIGTERM when the parent dies; others cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline, log = time.monotonic() + START, folder / "server.log"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CampaignError(
                f"the Prefect server ended with status {process.returncode}; see {log}"
            )
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/api/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise CampaignError(f"the Prefect server did not answer in {START} s; see {log}")


def check(url: str) -> None:
    """CampaignError where no server answers at PREFECT_API_URL."""
    try:
        address = f"{url.rstrip('/')}/health"
        urllib.request.urlopen(address, timeout=CONNECT).close()  # noqa: S310  the user's own
    except urllib.error.HTTPError:
        return  # somebody answers; what Prefect makes of it is for Prefect to say
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CampaignError(
            f"no Prefect server answers at PREFECT_API_URL={url} ({reason}); start one there, "
            "unset PREFECT_API_URL, or add --ui"
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
def local_server(root: str, keep: bool) -> Iterator[str]:
    """A server while the block runs, its address set for Prefect; left running when asked to."""
    folder = home(root)
    process, port = start(folder, survive=keep)
    before = dict(os.environ)
    os.environ.update(environment(folder, port))
    try:
        yield f"http://{HOST}:{port}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        if not keep:
            stop(process)


def free_port() -> int:
    """A port of loopback that nobody uses now, away from those that Ray takes."""
    for port in range(4200, 4300):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise CampaignError("no free port between 4200 and 4299 on loopback; close a server there")
