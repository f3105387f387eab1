"""The thing a user means by an id, the beginning of one, or a name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from mx.errors import NotFoundError, UsageError

_SHOWN = 5


def pick(wanted: str, names: Mapping[str, str], *, noun: str, listing: str) -> str:
    """The one key of ``names`` that is meant: equal to it, beginning with it, or with that name.

    ``names`` maps id → name (may be empty). Raises NotFoundError with the nearest, and UsageError
    when several fit; ``listing`` is the command that lists them.
    """
    if wanted in names:
        return wanted
    fits = [key for key in names if wanted and key.startswith(wanted)]
    fits = fits or [key for key, name in names.items() if name == wanted]
    if len(fits) == 1:
        return fits[0]
    if fits:
        shown = ", ".join(sorted(fits)[:_SHOWN])
        more = f" and {len(fits) - _SHOWN} more" if len(fits) > _SHOWN else ""
        raise UsageError(f"{wanted!r} fits {len(fits)} {noun}s: {shown}{more}", remedy="give more of the id")
    if not names:
        raise NotFoundError(
            f"no {noun} {wanted!r}: there is none at all", remedy=f"`{listing}` shows when there is one"
        )
    near = difflib.get_close_matches(wanted, [*names, *filter(None, names.values())], n=1, cutoff=0.5)
    nearest = f"the nearest is {near[0]}; " if near else ""
    raise NotFoundError(f"no {noun} {wanted!r}", remedy=f"{nearest}`{listing}` lists them")
