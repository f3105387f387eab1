"""Take secrets out of text that people and logs will see.

Pure functions. Two ways, because neither is enough alone: by place (the password of a URL,
the value of a field called ``token``) and by look (``hf_…``, ``nvapi-…``, a bearer header).
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["MASK", "is_secret_name", "redact_text"]

MASK = "***"

_SECRET_NAME = re.compile(
    r"(?:^|[_.\-])(?:token|passwd|password|secret|credentials?|api_?key|apikey|access_key|authorization|private_key)"
    r"(?:$|[_.\-])",
    re.IGNORECASE,
)
# `token_audiences` or `auth_token_ttl_s` speak about tokens and hold none.
_NOT_SECRET = re.compile(
    r"(?:_path|_file|_dir|_ttl_s|_ttl|_secs|_seconds|_bytes|_count|_audiences|_kind|_id)$", re.I
)

# In a URL the password ends at the last @ before the path: passwords may hold an @ of their own.
_URL_PASSWORD = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.\-]*://[^\s/:@?#\"']*):(?P<secret>[^\s/?#\"']*)@")
_QUERY_SECRET = re.compile(
    r"(?P<head>[?&](?:password|sentinel_password|pass|token|access_token|api_key|signature|sig|X-Amz-Signature|X-Goog-Signature)=)"
    r"[^&\s\"']+",
    re.IGNORECASE,
)
_LOOKS = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bnvapi-[A-Za-z0-9_\-]{16,}|\bAKIA[A-Z0-9]{16}\b"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+"
)
_AUTH = re.compile(
    r"(?P<head>\b(?:bearer\s+|basic\s+(?=[A-Za-z0-9+/=]{16})))[A-Za-z0-9._~+/=\-]{8,}", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Whether a field or key of this name holds a secret: ``api_key`` does, ``token_path`` does not."""
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)


def redact_text(text: str, *, known: Collection[str] = ()) -> str:
    """``text`` without URL passwords, tokens of known looks, and the ``known`` secrets themselves."""
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= 4:  # masking every "a" would destroy the text and hide nothing
            text = text.replace(secret, MASK)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text)
    if "=" in text:
        text = _QUERY_SECRET.sub(rf"\g<head>{MASK}", text)
    text = _AUTH.sub(rf"\g<head>{MASK}", text)
    return _LOOKS.sub(MASK, text)
