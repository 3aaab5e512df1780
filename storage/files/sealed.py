"""JSON records that hold a digest of themselves, so that a changed character is noticed."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from storage.planning.identity import digest

SEAL = "sha256"  # of the canonical JSON of all else that the record holds
_DIGEST = re.compile(r"[0-9a-f]{64}")


def seal(record: Mapping[str, object], indent: int | None = None) -> bytes:
    """A record with its digest: in one line with sorted keys, or in many lines in its own order.

    NumPy scalars are stored as numbers; NaN, infinity and whatever else JSON has no word for are a
    ValueError.
    """
    plain = json.loads(text(record))
    sealed = plain | {SEAL: digest(plain)}
    lines = json.dumps(sealed, sort_keys=indent is None, indent=indent, ensure_ascii=indent is None)
    return f"{lines}\n".encode()


def text(record: Mapping[str, object]) -> str:
    """A record without a digest, in one line; ValueError as by `seal`."""
    return json.dumps(dict(record), allow_nan=False, default=_scalar)


def unseal(data: bytes) -> dict[str, Any]:
    """The record in these bytes, without its digest; ValueError where it is not as it was sealed.

    Records of earlier versions have no digest and are taken as they are.
    """
    try:
        record = json.loads(data.decode(), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    known = record.pop(SEAL, None)
    if known is None and not any(_is_seal(key, value) for key, value in record.items()):
        return record
    if known != digest(record):
        raise ValueError("changed since it was written")
    return record


def _is_seal(key: str, value: object) -> bool:
    """Whether a digest lies under a name that none has: the name itself was damaged."""
    return key != "checkpoint" and isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _scalar(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"found a {type(value).__name__}")
