"""Whether the page and its pictures are as they were written; the page ends in its digest."""

import hashlib
import re
from collections.abc import Iterator

from pipelines.report import gallery
from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.files.sealed import unseal
from storage.verification.verify import Bad, Cure

REPORT = "report/report.html"
_END = re.compile(rb"<!-- sha256 ([0-9a-f]{64}) -->\n")
_LENGTH = len(b"<!-- sha256  -->\n") + 64


def signed(html: str) -> bytes:
    """A page with its digest behind it."""
    return f"{html}<!-- sha256 {_digest(html.encode())} -->\n".encode()


def damaged(objects: Objects) -> Iterator[Bad]:
    """The page, the pictures and their list, where one of them is not as it was written.

    Pages of earlier versions have no digest and are taken as they are. A page goes with its
    pictures: the next run makes all of them anew.
    """
    found = [*_pictures(objects)]
    if found or not _is_whole(objects):
        told = {each.name for each in found}
        rest = [name for name in (REPORT, gallery.LIST) if name not in told]
        found += [Bad(name, "it, or a picture of it, has changed", Cure.FORGET) for name in rest]
    yield from found


def _pictures(objects: Objects) -> Iterator[Bad]:
    data = _content(objects, gallery.LIST)
    if data is None:
        if objects.exists(REPORT):
            yield Bad(gallery.LIST, "it is missing", Cure.FORGET)
        return
    try:
        listed = unseal(data)
        digests = {name: each for of in listed.values() for name, each in of.items()}
    except (ValueError, AttributeError):
        yield Bad(gallery.LIST, "it is not as it was written", Cure.FORGET)
        return
    for name, wanted in digests.items():
        if name != "shows" and _digest(_content(objects, name) or b"") != wanted:
            yield Bad(name, "it is not as it was drawn", Cure.FORGET)


def _is_whole(objects: Objects) -> bool:
    data = _content(objects, REPORT)
    if data is None:
        return _content(objects, gallery.LIST) is None
    body, end = data[:-_LENGTH], _END.fullmatch(data[-_LENGTH:])
    if end is None:
        return data.rstrip().endswith(b"</html>") and b"<!-- sha256" not in data[-200:]
    return _digest(body) == end[1].decode()


def _content(objects: Objects, name: str) -> bytes | None:
    try:
        return objects.get(name)
    except CampaignError:  # a folder in its place
        return b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
