"""Sizes, durations and rates: from text, and back to text.

Sizes are binary (GiB) when mx writes them; decimal units (GB) are read with their decimal
meaning. Link rates are decimal bits (Gbit/s). Durations are seconds. Nothing here guesses:
a unit that could mean two things is refused with the spellings that are clear.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

__all__ = [
    "format_age",
    "format_duration",
    "format_rate",
    "format_size",
    "format_size_exact",
    "parse_duration",
    "parse_size",
]

_SIZE_UNITS: dict[str, int] = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _SIZE_UNITS[f"{_letter}ib"] = 1024**_power
    _SIZE_UNITS[f"{_letter}i"] = 1024**_power  # Kubernetes writes 10Gi
    _SIZE_UNITS[f"{_letter}b"] = 1000**_power

_BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", re.ASCII)

# Largest first: the order in which a duration is written.
_DURATION_MS: dict[str, int] = {
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|[smhdw])?\s*", re.ASCII)
_DURATION_HINT = "write seconds (90) or a span such as 30s, 45m, 2h, 7d, 1h30m"
_SIZE_HINT = "write bytes (1048576) or a size such as 64MiB, 500GiB, 10GB"


def parse_size(value: str | int) -> int:
    """Bytes from ``"500GiB"``, ``"10GB"``, ``"64Mi"`` or a whole number of bytes.

    Fractions are rounded to the nearest byte.
    Raises ValueError when the value is negative, no size, or has an unclear unit such as ``"10G"``.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a size; {_SIZE_HINT}")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"{value} is negative; {_SIZE_HINT}")
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value!r} is not a size; {_SIZE_HINT}")
    number, unit = found.groups()
    factor = _SIZE_UNITS.get(unit.lower())
    if factor is None:
        if unit.lower() in tuple("kmgtpe"):
            letter = unit.upper()
            raise ValueError(f"{value!r} has an unclear unit; write {number}{letter}iB or {number}{letter}B")
        raise ValueError(f"{value!r} has an unknown unit {unit!r}; {_SIZE_HINT}")
    return int((Decimal(number) * factor).to_integral_value())


def parse_duration(value: str | float) -> float:
    """Seconds from ``"7d"``, ``"1h30m"``, ``"90s"``, ``"250ms"``, ``"90"`` or a number of seconds.

    A day has 24 hours. Units go from large to small, each at most once.
    Raises ValueError when the value is negative, not finite or no duration.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration; {_DURATION_HINT}")
    if isinstance(value, (int, float)):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{value} is not a duration; {_DURATION_HINT}")
        return float(value)
    total_ms = Decimal(0)
    last_ms = math.inf
    position = 0
    text = value.strip().lower()
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None:
            raise ValueError(f"{value!r} is not a duration; {_DURATION_HINT}")
        number, unit = part.groups()
        if unit is None and (position > 0 or part.end() != len(text)):
            raise ValueError(f"{value!r} is not a duration: a number in it has no unit; {_DURATION_HINT}")
        unit_ms = _DURATION_MS[unit or "s"]
        if unit_ms >= last_ms:
            raise ValueError(f"{value!r} is not a duration: units go from large to small; {_DURATION_HINT}")
        total_ms += Decimal(number) * unit_ms
        last_ms = unit_ms
        position = part.end()
    if not text:
        raise ValueError(f"{value!r} is not a duration; {_DURATION_HINT}")
    seconds = float(total_ms / 1000)
    if not math.isfinite(seconds):
        raise ValueError(f"{value!r} is too long to be a duration; {_DURATION_HINT}")
    return seconds


def format_size(size_bytes: float) -> str:
    """For people: ``"512 B"``, ``"1.5 GiB"``, three significant digits."""
    sign = "-" if size_bytes < 0 else ""
    amount = abs(float(size_bytes))
    power = 0
    # 1023.5 would print as "1024": step up first.
    while amount >= 1023.5 and power < len(_BINARY_NAMES) - 1:
        amount /= 1024
        power += 1
    if power == 0:
        return f"{sign}{amount:.0f} B"
    return f"{sign}{_three_digits(amount)} {_BINARY_NAMES[power]}"


def format_size_exact(size_bytes: int) -> str:
    """For files: the largest binary unit that divides the size, ``"64MiB"``; else plain bytes.

    ``parse_size(format_size_exact(n)) == n`` for every n >= 0.
    """
    power = 0
    amount = size_bytes
    while amount and amount % 1024 == 0 and power < len(_BINARY_NAMES) - 1:
        amount //= 1024
        power += 1
    return str(amount) if power == 0 else f"{amount}{_BINARY_NAMES[power]}"


def format_rate(bytes_per_s: float) -> str:
    """Link rate in decimal bits from bytes per second: ``"12.3 Gbit/s"``."""
    bits = max(0.0, float(bytes_per_s)) * 8
    for name, factor in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        # 999.5 Mbit/s would print as "1000": step up first.
        if bits >= 0.9995 * factor:
            return f"{_three_digits(bits / factor)} {name}"
    return f"{bits:.0f} bit/s"


def format_age(seconds: float) -> str:
    """How long ago, the two largest units, cut and not rounded: ``"3m 12s"``, ``"2d 4h"``, ``"12s"``.

    A time in the future, which skewed clocks produce, is ``"0s"``.
    """
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        amount, rest = divmod(rest, length)
        if amount or (parts and len(parts) < 2):
            parts.append(f"{amount}{unit}")
        if len(parts) == 2:
            break
    shown = [part for part in parts if not part.startswith("0")]
    return " ".join(shown) or "0s"


def format_duration(seconds: float) -> str:
    """A span in the form that settings take: ``"7d"``, ``"1h30m"``, ``"250ms"``, ``"0s"``.

    Rounded to milliseconds: ``parse_duration(format_duration(x)) == round(x, 3)`` for x >= 0.
    Raises ValueError when the value is negative or not finite.
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{seconds} is not a duration")
    rest = round(seconds * 1000)
    text = ""
    for unit, length in _DURATION_MS.items():
        if unit == "w":  # 7d reads better than 1w, and it is how the guide writes it
            continue
        amount, rest = divmod(rest, length)
        if amount:
            text += f"{amount}{unit}"
    return text or "0s"


def _three_digits(amount: float) -> str:
    """1.23, 12.3, 123: the digits that a reader compares."""
    if amount >= 99.95:
        return f"{amount:.0f}"
    if amount >= 9.995:
        return f"{amount:.1f}"
    return f"{amount:.2f}"
