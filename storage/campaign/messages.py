"""One line for a person out of what pydantic found wrong."""

import difflib
import re
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section of keys and values",
    "none_required": "nothing; leave it out",
    "model_type": "a section of keys and values",
}
_BOUNDS = {
    "greater_than": ("a number above", "gt"),
    "greater_than_equal": ("a number not below", "ge"),
    "less_than": ("a number below", "lt"),
    "less_than_equal": ("a number not above", "le"),
}
_NUMBER = re.compile(r"[-+]?[0-9]{1,9}(\.[0-9]{0,9})?([eE][-+]?[0-5])?")
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")
_ITEMS = re.compile(r"[\w.:+-]+(, *[\w.:+-]+)*", re.ASCII)
# Keys of values of several kinds.
LISTED = {"bias_variance", "weight_variance"}  # keys of a number, or of one for each layer
UNIONS = ("data", "test", "step_size", "bias_variance", "weight_variance")


def explain(error: ValidationError) -> str:
    """`key: found x, wanted y`, for the first thing that is wrong, and what else is missing."""
    first, *others = error.errors(include_url=False)
    path = _path(first)
    line = f"{path}: {_problem(first)}" if path else _problem(first)
    missing = [_path(other) for other in others if other["type"] == "missing"]
    return f"{line}; also missing: {clip(', '.join(missing), 200)}" if missing else line


def _path(error: ErrorDetails) -> str:
    """Where something is wrong, as the YAML has it."""
    location = error["loc"]
    return ".".join(word(str(p)) for i, p in enumerate(location) if not _is_mark(location, i))


def _is_mark(location: tuple[int | str, ...], i: int) -> bool:
    """Tags of the unions, and marks of keys: no reader of the YAML wrote them."""
    if i == 0:
        return False
    tag = location[i - 1] in UNIONS and str(location[i]).startswith("@")
    return tag or location[i] == "[key]"


def _problem(first: ErrorDetails) -> str:
    kind, found, context = first["type"], first.get("input"), first.get("ctx", {})
    if kind == "missing":
        return "missing; add it"
    if kind == "literal_error":
        return f"found {short(found)}, wanted {_choice(found, context['expected'])}"
    if kind in _WANTED:
        wanted = _WANTED[kind]
        if kind == "float_type" and _may_be_a_list(first["loc"]):
            wanted = f"{wanted}, or a list of them"
            kind = "list_type" if "," in str(found) else kind
        return f"found {short(found)}, wanted {wanted}{_advice(kind, found)}"
    if kind in _BOUNDS:
        phrase, key = _BOUNDS[kind]
        return f"found {short(found)}, wanted {phrase} {_bound(context[key])}"
    if kind == "too_short":
        return f"found {context['actual_length']} values, wanted at least {context['min_length']}"
    return clip(first["msg"], 400)


def _may_be_a_list(location: tuple[int | str, ...]) -> bool:
    return not isinstance(location[-1], int) and bool(LISTED.intersection(map(str, location)))


def _bound(value: object) -> object:
    """0 for 0.0; all digits of a whole number."""
    return f"{value:g}" if isinstance(value, float) else value


def _advice(kind: str, found: object) -> str:
    """How to write what was meant, where the value shows it."""
    if kind in ("int_type", "float_type"):
        if isinstance(found, list):
            return "; several values go into sweep"
        number = _number(str(found))
        if number is not None and (kind == "float_type" or number.is_integer()):
            return f"; write {number:.15g}"
    if kind in ("tuple_type", "list_type") and not isinstance(found, bool):
        is_item = isinstance(found, int | float) or _ITEMS.fullmatch(str(found))
        return f"; write [{found}]" if is_item and found is not None else ""
    return ""


def _number(text: str) -> float | None:
    """The number that was meant: 1,000 and 1_000 are a thousand, and 0,5 is a half."""
    mark = "" if _THOUSANDS.fullmatch(text) else "."
    digits = text.replace(",", mark).replace("_", "")
    return float(digits) if _NUMBER.fullmatch(digits) else None


def _choice(found: object, expected: str) -> str:
    names = [name.strip("' ") for name in expected.replace(" or ", ", ").split(",")]
    close = _closest(str(found), names)
    return f"{expected}; did you mean {close}?" if close else expected


def _closest(found: str, names: Iterable[str]) -> str | None:
    """The name that is nearest, whatever its case."""
    by_letters = {name.lower(): name for name in names}
    close = difflib.get_close_matches(found.lower(), by_letters, n=1)
    return by_letters[close[0]] if close else None


def nearest(found: str, allowed: Iterable[str]) -> str:
    """'did you mean x? allowed: x, y, z', without the question where nothing is near."""
    names = [str(name) for name in allowed]
    close = _closest(found, names)
    question = f"did you mean {close}? " if close else ""
    return f"{question}allowed: {', '.join(names)}"


def short(value: object) -> str:
    """A value as it may stand in one line."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else clip(repr(value))


def rounded(value: object) -> object:
    """A value without the last digits of a sum of floats: 0.15 for 0.15000000000000002."""
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def word(name: str) -> str:
    """A name as it may stand in one line: as it is, or quoted where it is no word."""
    return (
        name
        if name.isprintable() and name == name.strip() != "" and len(name) <= 60
        else short(name)
    )


def printable(text: str) -> str:
    """A text as it may go to a terminal: what is no character of it is a blank."""
    return "".join(each if each.isprintable() else " " for each in text)


def clip(text: str, length: int = 60) -> str:
    """A text on one line, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
