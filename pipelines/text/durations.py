"""Times as people say them."""

UNITS = (("s", 60.0), ("min", 60.0), ("h", 24.0), ("d", 365.0))


def about(seconds: float) -> str:
    """`about 12 s`, or `under a second`."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """`under a second`, `12 s`, `3.5 min`, `26 h`, `40 d`, `3 years`."""
    if seconds < 1:
        return "under a second"
    for unit, next_one in UNITS:
        if seconds < (1 if unit == "d" else 1.5) * next_one:
            digits = 1 if seconds < 10 and unit != "s" else 0
            return f"{seconds:.{digits}f}".removesuffix(".0") + f" {unit}"
        seconds /= next_one
    return f"{seconds:.2g} years"
