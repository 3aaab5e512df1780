"""YAML 1.2 read as plain values from the events of the parser, and written.

No tag chooses code, nesting needs no recursion, what is aliased is counted as often as it is used,
and a refusal names the line. Plain scalars follow the core schema of YAML 1.2, section 10.3.2: 1e-8
is a number, 010 is ten; on, off, yes, no, dates, 1_000 and 0b1 are text. Keys are text as written.
"""

import io
import re
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from storage.campaign.messages import clip, short, word
from storage.campaign.plain import MAXIMUM_DEPTH, plain
from storage.errors import CampaignError

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PROBLEMS = {  # beginnings of what the parser says, and the same for a person
    "found character '\\t'": "found a tab; indent with blanks",
    "found character '": "found text that begins with a sign; put it in quotes",
    "mapping values are not allowed": "found a ':' that does not fit; check the indentation and "
    "the blank after ':' here and in the line before, or put text with ': ' in quotes",
    "could not find expected ':'": "found no ':' after a key; check the line before",
    "found unexpected end of stream": "found a quote that does not end",
}
_Value = list[object] | dict[str, object]
_MAXIMUM_DIGITS = 100  # a longer whole number is refused before it is converted


def load_yaml(text: str) -> object:
    """The one document of a YAML 1.2 text as plain values; None where it is empty.

    Raises CampaignError.
    """
    composer = _Composer()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            composer.take(event)
    except MarkedYAMLError as error:
        raise CampaignError(_not_valid(text, error)) from None
    except YAMLError as error:  # a character that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        found = short(chr(getattr(error, "character", 0)))
        raise CampaignError(f"line {line}: found the character {found}; remove it") from None
    except (ValueError, OverflowError):  # chr() of an escape such as "\UFFFFFFFF"
        raise CampaignError("not valid YAML: an escape names no Unicode character") from None
    return plain(composer.value)


def _not_valid(text: str, error: MarkedYAMLError) -> str:
    """The line that is wrong, and what is wrong with it, in words."""
    problem = str(error.problem or error.context)
    mark = error.problem_mark or error.context_mark
    if problem == "found unexpected end of stream" and error.context_mark is not None:
        mark = error.context_mark  # where the quote began
    line = mark.line if mark is not None else 0
    for number, written in enumerate(text.split("\n")[: line + 1], start=1):
        if "\u00a0" in written:
            return f"line {number}: found a no-break space; use plain blanks"
    known = next((words for start, words in _PROBLEMS.items() if problem.startswith(start)), "")
    return f"line {line + 1}: not valid YAML: {known or clip(problem, 200)}"


@dataclass
class _Open:
    """A list or mapping that has begun and not ended."""

    value: _Value
    anchor: str | None = None
    key: str | None = None  # of a mapping's next value

    @property
    def awaits_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None

    def put(self, value: object) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is not None:
            self.value[self.key] = value
            self.key = None


class _Composer:
    """Puts every value into the list or mapping that is open, and keeps what has an anchor."""

    def __init__(self) -> None:
        self.document: list[object] = []
        self.open = [_Open(self.document)]
        self.anchors: dict[str, object] = {}

    @property
    def value(self) -> object:
        return self.document[0] if self.document else None

    def take(self, event: Event) -> None:
        line = event.start_mark.line + 1
        match event:
            case DocumentStartEvent() if self.document:
                raise CampaignError(f"line {line}: found a second document, wanted one")
            case MappingStartEvent():
                self._begin({}, event, line)
            case SequenceStartEvent():
                self._begin([], event, line)
            case MappingEndEvent() | SequenceEndEvent():
                closed = self.open.pop()
                self._put(closed.value, closed.anchor)
            case ScalarEvent() if self.open[-1].awaits_key:
                self._key(event, line)
            case ScalarEvent():
                self._put(_scalar(event, line), event.anchor)
            case AliasEvent():
                self._put(self._aliased(event.anchor, line), None)

    def _begin(self, value: _Value, event: CollectionStartEvent, line: int) -> None:
        _refuse_tag(event, line)
        if self.open[-1].awaits_key:
            raise CampaignError(f"line {line}: found a list or section as a key, wanted text")
        if len(self.open) > MAXIMUM_DEPTH:
            raise CampaignError(
                f"line {line}: nested deeper than {MAXIMUM_DEPTH} levels; check the brackets"
            )
        self.open.append(_Open(value, event.anchor))

    def _key(self, event: ScalarEvent, line: int) -> None:
        _refuse_tag(event, line)
        key, mapping = event.value, self.open[-1]
        if key in mapping.value:
            raise CampaignError(f"line {line}: found the key {word(key)} twice; keep one")
        if key == "<<" and not event.style:
            raise CampaignError(f"line {line}: << is not YAML 1.2; write the keys out")
        mapping.key = key
        if event.anchor is not None:
            self.anchors[event.anchor] = key

    def _aliased(self, anchor: str, line: int) -> object:
        if self.open[-1].awaits_key:
            raise CampaignError(f"line {line}: found an alias as a key, wanted text")
        if anchor not in self.anchors:
            raise CampaignError(
                f"line {line}: found the alias {word(anchor)}, wanted one whose anchor ends before"
            )
        return self.anchors[anchor]

    def _put(self, value: object, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = value
        self.open[-1].put(value)


def _refuse_tag(event: CollectionStartEvent | ScalarEvent, line: int) -> None:
    if event.tag is not None:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        raise CampaignError(
            f"line {line}: found the tag {word(tag)}; tags are not read, leave it out"
        )


def _scalar(event: ScalarEvent, line: int) -> object:
    _refuse_tag(event, line)
    text = event.value
    if event.style:  # quoted, or a block
        return text
    if len(text) > _MAXIMUM_DIGITS and _INTEGER.fullmatch(text):
        raise CampaignError(f"line {line}: found a whole number of {len(text)} digits; give fewer")
    return _meaning(text)


def _meaning(text: str) -> object:
    """What an unquoted scalar means in the core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text if base == 10 else text[2:], base)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def write_yaml(value: object) -> str:
    """Plain values as YAML that reads back as the same values."""
    yaml, stream = YAML(typ="safe", pure=True), io.StringIO()
    yaml.Representer = _Representer
    yaml.default_flow_style = None
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.dump(value, stream)
    return stream.getvalue()


class _Representer(SafeRepresenter):
    """Quotes text that would read as something else."""

    def represent_str(self, data: str) -> ScalarNode:
        """Text, in quotes where it needs them."""
        same = isinstance(_meaning(data), str)
        bare = same and data.isprintable() and (data[0].isalnum() or data[0] in "/~")
        style = None if bare else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Representer.add_representer(str, _Representer.represent_str)
