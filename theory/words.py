"""Words as arguments."""

from collections.abc import Iterable


def check_word(name: str, word: object, words: Iterable[str], otherwise: str = "") -> None:
    """Raise ValueError unless the argument of this name is one of these words."""
    known = tuple(words)
    if word not in known:
        raise ValueError(f"{name} is {word!r}; take one of {', '.join(known)}{otherwise}")
