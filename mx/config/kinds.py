"""What values a setting may have: one kind per way of reading.

``parse`` takes what a file (native values), the environment or a flag (text) gave and returns the
value that the rest of mx sees, or raises ValueError with a reason that completes the sentence
"server.port: 'abc' …". ``render`` gives the value back in the form that files use, as a plain
TOML/YAML/JSON value. ``allowed`` is the sentence that an error ends with.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mx.core.units import format_duration, format_size_exact, parse_duration, parse_size

_TYPE_NAMES = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true/false",
    "dict": "a mapping",
    "list": "a list",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where relative paths, ``~`` and temporary files are."""

    cwd: Path
    home: Path
    temp: Path


class Kind(Protocol):
    """One way of reading a value."""

    @property
    def allowed(self) -> str: ...

    def parse(self, raw: object, place: Place) -> object:
        """The value. Raises ValueError with the reason."""
        ...

    def render(self, value: object) -> object:
        """The value as files write it."""
        ...


def describe(raw: object) -> str:
    """The sort of a value in words that a YAML author uses."""
    if raw is None:
        return "nothing (null)"
    return _TYPE_NAMES.get(type(raw).__name__, type(raw).__name__)


def as_text(raw: object) -> str:
    """Text without spaces at its ends. Raises ValueError for what is no text."""
    if isinstance(raw, str):
        return raw.strip()
    if isinstance(raw, Path):
        return str(raw)
    raise ValueError(f"is {describe(raw)} where text is expected; put quotes around it")


@dataclass(frozen=True, slots=True)
class Text:
    """Any text, without spaces at its ends."""

    allowed: str = "text"
    empty: bool = True
    pattern: str = ""

    def parse(self, raw: object, place: Place) -> str:
        text = as_text(raw)
        if not text and not self.empty:
            raise ValueError("is empty")
        if text and self.pattern and not re.fullmatch(self.pattern, text):
            raise ValueError("has the wrong form")
        if any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise ValueError("holds a control character")
        return text

    def render(self, value: object) -> object:
        return str(value)


_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Flag:
    """A switch. The same words everywhere, in any case."""

    allowed: str = "true or false (also 1/0, yes/no, on/off)"

    def parse(self, raw: object, place: Place) -> bool:
        if isinstance(raw, bool):
            return raw
        word = str(raw).strip().lower() if isinstance(raw, (str, int)) else ""
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError("is neither true nor false")

    def render(self, value: object) -> object:
        return bool(value)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds."""

    least: int = 0
    most: int | None = None

    @property
    def allowed(self) -> str:
        return (
            f"a whole number from {self.least} to {self.most}"
            if self.most is not None
            else f"a whole number, {self.least} or more"
        )

    def parse(self, raw: object, place: Place) -> int:
        if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,40}\s*", raw, re.ASCII):
            number = int(raw)
        elif isinstance(raw, int) and not isinstance(raw, bool):
            number = raw
        else:
            raise ValueError("is not a whole number")
        if number < self.least:
            raise ValueError("is too small")
        if self.most is not None and number > self.most:
            raise ValueError("is too large")
        return number

    def render(self, value: object) -> object:
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number, ``least`` or more, ``most`` at most."""

    least: float = 0.0
    most: float = math.inf

    @property
    def allowed(self) -> str:
        if math.isfinite(self.most):
            return f"a number from {self.least:g} to {self.most:g}"
        return f"a number, {self.least:g} or more"

    def parse(self, raw: object, place: Place) -> float:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            raise ValueError("is not a number")
        try:
            number = float(raw)
        except (ValueError, OverflowError):
            raise ValueError("is not a number") from None
        if not math.isfinite(number):
            raise ValueError("is not finite")
        if number < self.least:
            raise ValueError("is too small")
        if number > self.most:
            raise ValueError("is too large")
        return number

    def render(self, value: object) -> object:
        return value


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time; seconds once read."""

    least_s: float = 0.0

    @property
    def allowed(self) -> str:
        bound = f", {format_duration(self.least_s)} or longer" if self.least_s else ""
        return f"a duration such as 30s, 45m, 2h, 7d, 1h30m, or seconds{bound}"

    def parse(self, raw: object, place: Place) -> float:
        if not isinstance(raw, (str, int, float)) or isinstance(raw, bool):
            raise ValueError("is not a duration")
        try:
            seconds = parse_duration(raw)
        except (ValueError, OverflowError):
            raise ValueError("is not a duration") from None
        if seconds < self.least_s:
            raise ValueError("is too short")
        return seconds

    def render(self, value: object) -> object:
        return format_duration(value) if isinstance(value, (int, float)) else value


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes."""

    least_bytes: int = 0
    most_bytes: int | None = None

    @property
    def allowed(self) -> str:
        bound = f", {format_size_exact(self.least_bytes)} or more" if self.least_bytes > 1 else ""
        top = f", at most {format_size_exact(self.most_bytes)}" if self.most_bytes is not None else ""
        return f"bytes or a size such as 64MiB, 500GiB, 10GB{bound}{top}"

    def parse(self, raw: object, place: Place) -> int:
        if not isinstance(raw, (str, int)) or isinstance(raw, bool):
            raise ValueError("is not a size")
        try:
            size = parse_size(raw)
        except ValueError as error:
            # Only the part after ";" is a help here; the rest repeats the value.
            hint = str(error).partition("; ")[2] if "unclear" in str(error) else ""
            raise ValueError(f"is not a size{': ' + hint if hint else ''}") from None
        if size < self.least_bytes:
            raise ValueError("is too small")
        if self.most_bytes is not None and size > self.most_bytes:
            raise ValueError("is too large")
        return size

    def render(self, value: object) -> object:
        return format_size_exact(value) if isinstance(value, int) and value >= 1024 else value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words, in any case; ``aliases`` are accepted for them."""

    words: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        extra = f" (also {', '.join(word for word in self.aliases if word)})" if any(self.aliases) else ""
        return ", ".join(self.words) + extra

    def parse(self, raw: object, place: Place) -> str:
        text = as_text(raw).lower()
        for word in self.words:
            if text == word.lower():
                return word
        if text in self.aliases:
            return self.aliases[text]
        raise ValueError("is not one of the known words")

    def render(self, value: object) -> object:
        return value


@dataclass(frozen=True, slots=True)
class PathText:
    """A path; relative ones start at the working directory, ``~`` is the home."""

    allowed: str = "a path"

    def parse(self, raw: object, place: Place) -> Path:
        text = as_text(raw)
        if not text:
            raise ValueError("is empty")
        if "\0" in text:
            raise ValueError("holds a control character")
        if text == "~" or text.startswith("~/"):
            return place.home / text[2:]
        if text.startswith("~"):
            raise ValueError("names another user's home, which is not supported")
        return place.cwd / text

    def render(self, value: object) -> object:
        return str(value)


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value that may be absent: null, empty, or one of ``words``."""

    kind: Kind
    words: tuple[str, ...] = ("none", "null")
    rendered: str | None = None

    @property
    def allowed(self) -> str:
        return f"{self.kind.allowed}, or {' or '.join(self.words[:1]) or 'empty'}"

    def parse(self, raw: object, place: Place) -> object:
        if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("", *self.words)):
            return None
        return self.kind.parse(raw, place)

    def render(self, value: object) -> object:
        return None if value is None else self.kind.render(value)


@dataclass(frozen=True, slots=True)
class Words:
    """A list of words: a list in a file, commas in the environment."""

    allowed: str = "a list of words (commas between them in the environment)"
    lower: bool = False

    def parse(self, raw: object, place: Place) -> tuple[str, ...]:
        if isinstance(raw, str):
            parts: Sequence[object] = raw.split(",")
        elif isinstance(raw, (list, tuple)):
            parts = raw
        else:
            raise ValueError("is not a list")
        words: list[str] = []
        for part in parts:
            word = as_text(part)
            word = word.lower() if self.lower else word
            if word and word not in words:
                words.append(word)
        return tuple(words)

    def render(self, value: object) -> object:
        return list(value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, slots=True)
class Paths:
    """A list of paths: a list in a file, commas in the environment."""

    allowed: str = "a list of paths (commas between them in the environment)"

    def parse(self, raw: object, place: Place) -> tuple[Path, ...]:
        one = PathText()
        return tuple(dict.fromkeys(one.parse(word, place) for word in Words().parse(raw, place)))

    def render(self, value: object) -> object:
        return [str(path) for path in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, slots=True)
class StringMap:
    """Names and texts: a mapping in a file, a JSON object in the environment."""

    allowed: str = 'a mapping of text to text (in the environment a JSON object such as {"zone": "a"})'

    def parse(self, raw: object, place: Place) -> dict[str, str]:
        if isinstance(raw, str):
            if not raw.strip():
                return {}
            try:
                raw = json.loads(raw)
            except (ValueError, RecursionError):
                raise ValueError("is not JSON") from None
        if not isinstance(raw, Mapping):
            raise ValueError("is not a mapping")
        found: dict[str, str] = {}
        for name, text in raw.items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise ValueError(f"has {describe(text)} at {str(name)!r} where text is expected")
            found[name.strip()] = text.strip()
        return found

    def render(self, value: object) -> object:
        return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Kubernetes service account that may call the server."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}:{self.name}"


@dataclass(frozen=True, slots=True)
class ServiceAccounts:
    """``ns:sa,ns:sa``, or a list of {namespace, service_account}."""

    allowed: str = (
        "namespace:service-account, comma between them; in a file a list of {namespace, service_account}"
    )

    def parse(self, raw: object, place: Place) -> tuple[ServiceAccount, ...]:
        parts: Sequence[object]
        if isinstance(raw, str):
            parts = [part for part in raw.split(",") if part.strip()]
        elif isinstance(raw, (list, tuple)):
            parts = raw
        else:
            raise ValueError("is not a list")
        return tuple(self._one(part) for part in parts)

    @staticmethod
    def _one(part: object) -> ServiceAccount:
        if isinstance(part, ServiceAccount):
            return part
        if isinstance(part, str):
            namespace, _, name = part.strip().partition(":")
        elif isinstance(part, Mapping):
            if set(part) != {"namespace", "service_account"}:
                raise ValueError(f"has an entry with the members {', '.join(map(str, part)) or 'none'}")
            namespace, name = as_text(part["namespace"]), as_text(part["service_account"])
        else:
            raise ValueError(f"has an entry that is {describe(part)}")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", namespace) or not re.fullmatch(
            r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name
        ):
            raise ValueError(f"has the entry {f'{namespace}:{name}'!r}, which names no service account")
        return ServiceAccount(namespace, name)

    def render(self, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            return value
        return [{"namespace": one.namespace, "service_account": one.name} for one in value]
