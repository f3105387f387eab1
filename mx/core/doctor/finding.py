"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """``ok`` was looked at and is right, ``info`` is worth knowing, ``warning`` costs or will cost
    something, ``error`` keeps mx from doing what it is there for."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class CheckName(StrEnum):
    """What can be looked at, in the order in which it is told."""

    SETTINGS = "settings"
    SERVER = "server"
    CACHE = "cache"
    DEVICES = "devices"
    LIMITS = "limits"
    NIXL = "nixl"
    UCX = "ucx"
    VLLM = "vllm"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on what was found, and what to do about it (empty: nothing)."""

    level: Level
    text: str
    remedy: str = ""


def ok(text: str) -> Finding:
    return Finding(Level.OK, text)


def info(text: str, *, remedy: str = "") -> Finding:
    return Finding(Level.INFO, text, remedy)


def warning(text: str, *, remedy: str) -> Finding:
    return Finding(Level.WARNING, text, remedy)


def error(text: str, *, remedy: str) -> Finding:
    return Finding(Level.ERROR, text, remedy)
