"""An event as the text that stores keep."""

from __future__ import annotations

import json

from mx.core.feed import Event
from mx.core.feed_json import event_from_json, to_json
from mx.errors import IntegrityError


def pack_event(event: Event) -> str:
    return json.dumps(to_json(event), ensure_ascii=False, separators=(",", ":"))


def unpack_event(text: str | bytes) -> Event | None:
    """None for what a person or another version left there: a line less is no reason to show none."""
    try:
        return event_from_json(json.loads(text))
    except (ValueError, IntegrityError):
        return None
