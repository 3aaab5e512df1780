"""Whole objects under names, in a local folder or under an s3:// URL, through one code path.

Credentials and endpoint of S3 come from the AWS_* variables of the process that opens the place;
what travels between processes is the URL alone.

Zarr is imported where it is used: all but reading by xarray goes without it.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from obstore.store import LocalStore, S3Store

from storage.errors import CampaignError, UnreachableError
from storage.files import on_disk

if TYPE_CHECKING:
    from obstore.store import RetryConfig

    from storage.files.zarr_objects import ZarrObjects

Made = TypeVar("Made")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?://([^/]*)|(?=/))(.*)", re.DOTALL)
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # line breaks, and bytes outside UTF-8
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*")
_NAME = re.compile(rf"{_SEGMENT.pattern}(?:/{_SEGMENT.pattern})*")
# What killed writers leave: obstore stages an object as `name#1`, Zarr as `name.<hex>.partial`.
_DEBRIS = re.compile(r".*(#\d+|\.partial)")
_OURS_LEFT = re.compile(rf"{_SEGMENT.pattern}(#\d+|\.[0-9a-f]{{32}}\.partial)")
_NUMBER = re.compile(r"\(os error (\d+)\)")
READ = "check the permissions"
WRITE = "check the permissions and the space left, or choose another --store"
_BUCKET = (
    "check the bucket and the AWS_* variables (AWS_ENDPOINT_URL, AWS_REGION, credentials; "
    "AWS_ALLOW_HTTP=true for http), and try again: what is finished is kept"
)
_REMEDIES = {  # of what a machine may refuse
    errno.ENOSPC: "make room, or choose another --store",
    errno.EDQUOT: "make room, or choose another --store",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close what has many files open",
}
# A bucket that does not answer well is asked again, but not for ever.
RETRY_TIMEOUT = timedelta(seconds=60)
RETRIES: "RetryConfig" = {"max_retries": 10, "retry_timeout": RETRY_TIMEOUT}
PAUSE = 0.2  # seconds before the second of our own attempts, and twice as long before each other

_openers: set[int] = set()  # processes that used a store: its threads do not survive a fork


@dataclass(frozen=True)
class Objects:
    """A place for objects: a folder, a file:// URL of one, or s3://bucket/prefix.

    Every object is whole: a reader sees the old bytes, the new ones or none, whenever the writer is
    killed. Nothing is forced to disk, so a power cut can still truncate what was written last,
    unless the place is `durable`: then an object is on the disk when its writer returns.
    Names are segments of letters, digits and `_ . + = -` joined by `/`; other names are a
    ValueError. Whatever keeps a place from being read or written is a CampaignError.
    """

    url: str  # absolute path of the folder, or s3://bucket/prefix
    durable: bool = False  # whether objects in a folder survive a power cut; those on S3 always do
    fence: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _normal(self.url))

    def __reduce__(self) -> tuple[type["Objects"], tuple[str, bool]]:
        return Objects, (self.url, self.durable)

    def fenced(self, fence: Callable[[], None]) -> "Objects":
        """The same place for a driver: before each write `fence` is called, and may raise."""
        return replace(self, fence=fence)

    @property
    def remote(self) -> bool:
        """Whether the place is a bucket rather than a folder."""
        return self.url.startswith("s3://")

    @property
    def forced(self) -> bool:
        """Whether each object is forced to a disk of this machine."""
        return self.durable and not self.remote

    def put(self, name: str, data: bytes) -> None:
        """Write an object, or replace the one there, in one step."""
        path = _checked(name)
        with self.writing("write", name):
            if self.forced:
                on_disk.write(Path(self.url, path), data, replacing=True)
            else:
                obstore.put(self._store, path, data, use_multipart=False)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none: of any number of callers exactly one gets True.

        A hard link on disk, a conditional put on S3. Where the answer to a put that succeeded is
        lost on the network and the put is sent again, even the winner gets False: who must know
        compares the bytes.
        """
        path = _checked(name)
        with self.writing("write", name):
            if self.forced:
                return on_disk.write(Path(self.url, path), data, replacing=False)
            try:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None where there is none."""
        path = _checked(name)
        if self._absent():
            return None
        with self.explained("read", name, READ):
            try:
                if not self.remote:  # a fifth of the work
                    return Path(self.url, path).read_bytes()
                return asked_again(lambda: obstore.get(self._store, path).bytes().to_bytes())
            except IsADirectoryError:
                return None
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        path = _checked(name)
        if self._absent():
            return False
        with self.explained("read", name, READ):
            try:
                if not self.remote:
                    return S_ISREG(os.stat(Path(self.url, path)).st_mode)
                obstore.head(self._store, path)
            except FileNotFoundError:
                return False
        return True

    def names(self, prefix: str = "") -> list[str]:
        """The names of all objects below a prefix (whole segments), sorted; unfinished ones not.

        What else lies in a folder (of a file manager, an editor, a service that copies folders) is
        not seen where its name is none that an object can have.
        """
        path = _checked(prefix) if prefix else ""
        with self.explained("list", prefix, READ):
            if self.remote:
                found = asked_again(lambda: self._keys(path))
            else:
                found = _files(Path(self.url), path)
            return sorted(name for name in found if _is_name(name))

    def numbered(self, folder: str, ending: str) -> list[str]:
        """The objects `0001.<ending>`, `0002.<ending>`, ... of a folder in their order."""
        name = re.compile(rf"{re.escape(folder)}/\d{{4,}}\.{re.escape(ending)}")
        return [found for found in self.names(folder) if name.fullmatch(found)]

    def folders(self, prefix: str = "") -> list[str]:
        """The folders directly below a prefix; those with foreign names are not seen."""
        path = _checked(prefix) if prefix else ""
        with self.explained("list", prefix, READ), suppress(FileNotFoundError):
            if self.remote:
                listed = asked_again(lambda: obstore.list_with_delimiter(self._store, path or None))
                found = [name.rpartition("/")[2] for name in listed["common_prefixes"]]
            else:
                found = [e.name for e in os.scandir(Path(self.url, path)) if e.is_dir()]
            return sorted(filter(_is_name, found))
        return []

    def delete(self, name: str) -> None:
        """Remove an object; it need not exist."""
        path = _checked(name)
        if self._absent():
            return
        with self.writing("delete", name), suppress(FileNotFoundError):
            if self.forced:
                on_disk.remove(Path(self.url, path))
            else:
                asked_again(lambda: obstore.delete(self._store, path))

    def child(self, prefix: str) -> "Objects":
        """The place below a prefix."""
        return replace(self, url=f"{self.url}/{_checked(prefix)}")

    def zarr(self) -> "ZarrObjects":
        """This place for Zarr to read. It holds a client: send the URL elsewhere, not this."""
        from storage.files.zarr_objects import ZarrObjects

        if self._absent():
            raise CampaignError(
                f"found no folder {self.url}, wanted one to read; check the path, or run the "
                "campaign first"
            )
        with self.explained("open", "", READ):
            return ZarrObjects(self._store, self)

    def sweep(self, prefix: str = "") -> int:
        """Remove what killed writers left below a prefix, and say how many files that were.

        For the holder of the lease: a writer still alive loses the object it is writing (with an
        error). On S3 an unfinished upload is no object; a lifecycle rule of the bucket ends it.
        """
        if self.remote:
            return 0
        top = Path(self.url, _checked(prefix) if prefix else "")
        removed = 0
        with self.writing("sweep", prefix):
            for folder, _, files in os.walk(top):
                for file in filter(_OURS_LEFT.fullmatch, files):
                    Path(folder, file).unlink(missing_ok=True)
                    removed += 1
        return removed

    @property
    def _store(self) -> LocalStore | S3Store:
        _openers.add(os.getpid())
        if len(_openers) > 1:
            raise CampaignError(
                f"found a forked process using {self.url}, wanted a fresh one, since a store does "
                "not survive a fork; start processes with multiprocessing's 'spawn'"
            )
        return self._opened

    @cached_property
    def _opened(self) -> LocalStore | S3Store:
        if not self.remote:
            if self.forced:
                on_disk.make(Path(self.url))
            return LocalStore(self.url, mkdir=True)
        return S3Store.from_url(self.url, retry_config=RETRIES)

    def _keys(self, prefix: str) -> list[str]:
        pages = obstore.list(self._store, prefix or None)
        return [each["path"] for page in pages for each in page]

    def _absent(self) -> bool:
        """Whether the folder does not exist yet: reading must not make it."""
        return not self.remote and not os.path.lexists(self.url)

    @contextmanager
    def writing(self, doing: str, name: str) -> Iterator[None]:
        """Whatever changes an object happens in here, Zarr's writes too: the fence is asked first.

        CampaignError as by `explained`, and what the fence raises.
        """
        self.fence()
        with self.explained(doing, name, WRITE):
            yield

    @contextmanager
    def explained(self, doing: str, name: str, advice: str) -> Iterator[None]:
        """CampaignError, in one line, for whatever keeps an object from being read or written."""
        try:
            yield
        except (BaseError, OSError) as error:
            place = f"{self.url}/{name}" if name else self.url
            if isinstance(error, NotADirectoryError):
                advice = "a file is in the place of a folder: move it, or choose another one"
            number = _number(error)
            remedy = _BUCKET if self.remote else _REMEDIES.get(number, advice)
            raise UnreachableError(
                f"cannot {doing} {place}: {_reason(error, number)}; {remedy}"
            ) from error


def asked_again(ask: Callable[[], Made]) -> Made:
    """What a bucket gives at last, asked what obstore itself does not ask twice.

    What was answered and then cut, be it a list or that there is no such object, and deletions,
    which it sends as a POST.
    """
    deadline = time.monotonic() + RETRY_TIMEOUT.total_seconds()
    pause = PAUSE
    while True:
        try:
            return ask()
        except GenericError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause *= 2


def _normal(url: str) -> str:
    """The absolute path or the s3:// URL without a trailing slash; CampaignError for any other."""
    if not url:
        raise CampaignError("found an empty store, wanted a folder or s3://bucket/prefix")
    if _NO_TEXT.search(url):
        raise CampaignError(
            f"found a store at {url.encode(errors='replace').decode()!r}, wanted a name in UTF-8; "
            "rename the folder, or choose another one"
        )
    match = _URL.fullmatch(url)
    if match is None:
        return os.path.abspath(os.path.expanduser(url))
    scheme, host, path = match[1].lower(), match[2] or "", match[3]
    if scheme == "file" and host in ("", "localhost"):
        return os.path.abspath(unquote(path))
    place = f"{host}{path}".rstrip("/")
    if scheme == "s3" and host and all(map(_SEGMENT.fullmatch, place.split("/"))):
        return f"s3://{place}"
    shown = re.sub(r".*@|[?#].*", "", host)  # a key in the URL is not repeated
    raise CampaignError(
        f"found a store at {scheme}://{shown}, wanted a folder, file:///folder or "
        "s3://bucket/prefix, with letters, digits and _ . + = - (credentials go into AWS_*)"
    )


def _files(top: Path, prefix: str) -> Iterator[str]:
    """The names of the files below a prefix that are names of objects, or could be.

    Folders with names that are not ours are passed by. There may be a hundred thousand files: each
    costs a look at its name and none at itself.
    """
    below = [prefix]
    while below:
        place = below.pop()
        try:
            entries = list(os.scandir(top / place))
        except FileNotFoundError:  # it need not exist, or no more
            continue
        start = f"{place}/" if place else ""
        for entry in entries:
            if not _SEGMENT.fullmatch(entry.name):
                continue
            if entry.is_file():
                yield start + entry.name
            elif entry.is_dir():
                below.append(start + entry.name)


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _DEBRIS.fullmatch(name)


def _checked(name: str) -> str:
    """The name itself; ValueError unless it means the same object on every kind of store."""
    if not _is_name(name):
        raise ValueError(
            f"found the name {name!r}, wanted segments of letters, digits and _ . + = - joined "
            "by '/', none starting with a dot, not ending in .partial"
        )
    return name


def _number(error: Exception) -> int:
    """What the system calls an error; 0 where it has no part in it."""
    told = _NUMBER.search(str(error))
    return (isinstance(error, OSError) and error.errno) or (int(told[1]) if told else 0)


def _reason(error: Exception, number: int) -> str:
    """One line of the many that a store's error holds, S3's own code where it gives one."""
    if number:
        return os.strerror(number)
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return code[1] if code else str(error).partition("\n")[0][:300]
