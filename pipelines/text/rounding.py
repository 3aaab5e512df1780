"""Numbers with their errors in the notation of the field: 1.843(12)."""

import math

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
UNKNOWN = "–"


def uncertain(value: float, error: float) -> str:
    """`1.843(12)`: the error in units of the last digit, two digits where it begins with a 1.

    Below 10⁻³ and from 10⁶ up with a power of ten; without an error, four digits.
    """
    if not math.isfinite(value):
        return UNKNOWN
    if not (math.isfinite(error) and error > 0):
        return plain(value)
    exponent = math.floor(math.log10(max(abs(value), error)))
    if -3 <= exponent < 6:
        return _brackets(value, error)
    return f"{_brackets(value / 10**exponent, error / 10**exponent)} × {power(exponent)}"


def _brackets(value: float, error: float) -> str:
    mantissa, _, exponent = f"{error:.1e}".partition("e")
    decimals = (float(mantissa) < 2) - int(exponent)
    if decimals <= 0:
        return f"{_fixed(round(value, decimals), 0)}({round(error, decimals):.0f})"
    shown = f"{error:.{decimals}f}" if error >= 1 else f"{error * 10**decimals:.0f}"
    return f"{_fixed(value, decimals)}({shown})"


def _fixed(value: float, decimals: int) -> str:
    return _minus(f"{round(value, decimals) + 0.0:.{decimals}f}")  # no -0.00


def plain(value: float, digits: int = 4) -> str:
    """A number with at most this many digits, and a power of ten where it is needed."""
    if not math.isfinite(value):
        return UNKNOWN
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if not exponent:
        return _minus(mantissa)
    factor = "" if mantissa == "1" else f"{_minus(mantissa)} × "
    return f"{factor}{power(int(exponent))}"


def power(exponent: int) -> str:
    """A power of ten: `10⁻³`."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def digits(value: float) -> str:
    """A p-value with two digits."""
    return plain(value, 2)


def percent(value: float) -> str:
    """A relative number in percent, with two digits."""
    return f"{plain(100 * value, 2)} %"
