"""Compiling the C++ of this folder on the machine where it runs, once for each kind of processor.

The library lies in the user's cache, under a name that holds the sources, the compiler, its flags
and what the processor can do. Bits do not depend on any of these but the sources: see vectors.h.
"""

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from workers.machine import cache

BITS = 1  # raised when a change of the sources alters a result
SOURCES = (
    "network.cpp",
    "neurons.cpp",
    "philox.cpp",
    "activations.h",
    "panels.h",
    "parameters.h",
    "products.h",
    "vectors.h",
    "workspace.h",
)
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti")
NATIVE = {"x86_64": ("-march=native",), "aarch64": (), "arm64": ()}  # NEON is in any of these
PATIENCE = 300  # seconds


class BuildError(Exception):
    """The library cannot be had; the message is one line that says why."""


def name() -> str:
    """What decides the bits of a result, in words that are compared between workers."""
    return f"fused {BITS}"


def unavailable() -> str:
    """Why the fused kernels cannot be used here, in one line; nothing where they can."""
    found = _attempt()
    return found if isinstance(found, str) else ""


def library() -> ctypes.CDLL:
    """The loaded library, compiled if it is not in the cache; BuildError where there is none."""
    found = _attempt()
    if isinstance(found, str):
        raise BuildError(found)
    return found


@lru_cache(maxsize=1)
def _attempt() -> ctypes.CDLL | str:
    try:
        return load(build(cache.private(cache.folder()), native_flags()))
    except (BuildError, OSError) as error:
        return " ".join(str(error).split())


def load(library: Path) -> ctypes.CDLL:
    """The functions of a compiled library."""
    return ctypes.CDLL(str(library))


def native_flags() -> tuple[str, ...]:
    """What asks the compiler for all that this processor can do."""
    machine = platform.machine()
    if machine not in NATIVE:
        raise BuildError(f"fused kernels are for {', '.join(NATIVE)}; this machine is {machine}")
    return NATIVE[machine]


def build(folder: Path, flags: tuple[str, ...]) -> Path:
    """The library in a folder, compiled first if it is not there; BuildError if that fails.

    It appears there whole, with its digest beside it: one that is not what was compiled is
    compiled again. Processes that want it at the same time compile it once.
    """
    compiler = _compiler()
    library = folder / f"fused-{_digest(compiler, flags)}.so"
    if cache.is_signed(library):
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if not cache.is_signed(library):
            cache.forget(library)
            _compile(compiler, flags, library)
            cache.sign(library)
    return library


def _compile(compiler: str, flags: tuple[str, ...], library: Path) -> None:
    here = Path(__file__).parent
    sources = [str(here / source) for source in SOURCES if source.endswith(".cpp")]
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, *FLAGS, *flags, "-fPIC", "-shared", *sources, "-o", str(made)]
        done = _run(command)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            reason = (lines or done.stderr.splitlines() or ["no message"])[0]
            raise BuildError(f"{compiler} cannot compile the fused kernels: {reason}")
        made.replace(library)


def _compiler() -> str:
    for candidate in COMPILERS:
        if found := shutil.which(candidate):
            return found
    raise BuildError(f"fused kernels need a C++ compiler; install one of {', '.join(COMPILERS)}")


def _digest(compiler: str, flags: tuple[str, ...]) -> str:
    """Of all that decides what is compiled."""
    parts = [compiler, _run([compiler, "--version"]).stdout, *FLAGS, *flags, _processor()]
    here = Path(__file__).parent
    contents = [part.encode() for part in parts] + [(here / s).read_bytes() for s in SOURCES]
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]


def _processor() -> str:
    """What the processor can do, as far as the system tells."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
        return "\n".join(sorted(told))
    return platform.platform() + platform.processor()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  a compiler found on PATH
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} did not finish within {PATIENCE} s") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for other processes; where files cannot be locked, all of them compile."""
    import fcntl  # not known to every system

    with path.open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
