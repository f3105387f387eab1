"""What S3 says: pages of listings, heads of objects, refusals. Pure: text in, values and errors out."""

from __future__ import annotations

import base64
import binascii
import html
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from urllib.parse import unquote_plus

import httpx2

from mx.core.redact import redact_text
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.providers.digests import LENGTHS
from mx.providers.listings import StoredObject
from mx.providers.retry import TransientError

_MD5 = re.compile(r"[0-9a-f]{32}")
# The best one that is there: a cryptographic one, then by what they cost to compute.
_CHECKSUMS = ("sha256", "crc64nvme", "crc32c", "crc32")

_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
_RIGHTS = "the account needs s3:ListBucket on the bucket and s3:GetObject on its objects"
_REGION = "set AWS_REGION (providers.s3.region) to the bucket's region"
_AGAIN = "try again later"

_REFUSALS: dict[str, tuple[type[MxError], str, str]] = {
    "NoSuchBucket": (NotFoundError, "there is no such bucket", "check its name, and AWS_ENDPOINT_URL"),
    "NoSuchKey": (NotFoundError, "there is no such object", "check the name"),
    "AccessDenied": (PermissionDeniedError, "access is denied", _RIGHTS),
    "AllAccessDisabled": (PermissionDeniedError, "access is switched off", _RIGHTS),
    "AccountProblem": (PermissionDeniedError, "the account has a problem", "ask who runs it"),
    "InvalidAccessKeyId": (UnauthenticatedError, "the access key is not known there", _KEYS),
    "SignatureDoesNotMatch": (UnauthenticatedError, "the secret key is not that of the access key", _KEYS),
    "InvalidToken": (UnauthenticatedError, "the session token is not valid", _KEYS),
    "ExpiredToken": (UnauthenticatedError, "the session token has expired", "get new temporary credentials"),
    "RequestTimeTooSkewed": (
        UnauthenticatedError,
        "the clock of this machine is more than 15 minutes off",
        "set the clock",
    ),
    "AuthorizationHeaderMalformed": (PreconditionError, "the bucket is in another region", _REGION),
    "PermanentRedirect": (PreconditionError, "the bucket is in another region", _REGION),
    "TemporaryRedirect": (PreconditionError, "the bucket is in another region", _REGION),
    "InvalidBucketName": (InvalidArgumentError, "that is no name of a bucket", "check the name"),
    "InvalidObjectState": (
        PreconditionError,
        "the object is archived",
        "restore it to a storage class that can be read",
    ),
}
# Refused with statuses that are final elsewhere.
_PASSING = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling"})
_BY_STATUS = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    401: "InvalidAccessKeyId",
    403: "AccessDenied",
    404: "NoSuchKey",
}


@dataclass(frozen=True, slots=True)
class Page:
    """Objects of a listing, and the token of the next page."""

    objects: tuple[StoredObject, ...]
    following: str | None


def read_page(body: bytes, what: str) -> Page:
    """One answer of ListObjectsV2; IntegrityError for anything else."""
    try:
        if b"<!DOCTYPE" in body[:1000]:
            raise ValueError("a document type")
        # No document type, so no entities that could grow.
        root = ET.fromstring(body)  # noqa: S314
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            raise ValueError(root.tag[:80])
        escaped = root.findtext("{*}EncodingType") == "url"
        objects = tuple(_object(item, escaped=escaped) for item in root.iterfind("{*}Contents"))
        more = root.findtext("{*}IsTruncated") == "true"
        following = root.findtext("{*}NextContinuationToken") if more else None
        if more and not following:
            raise ValueError("a page without the token of the next one")
    except (ET.ParseError, ValueError) as error:
        raise IntegrityError(f"{what}: the store's listing can't be read: {str(error)[:120]}") from None
    return Page(objects, following)


def _object(item: ET.Element, *, escaped: bool) -> StoredObject:
    key, size, etag = (item.findtext(f"{{*}}{name}") for name in ("Key", "Size", "ETag"))
    if not key or size is None or not re.fullmatch(r"\d{1,18}", size, re.ASCII):
        raise ValueError(f"an object {str(key)[:80]!r} of size {str(size)[:20]!r}")
    return StoredObject(unquote_plus(key, errors="strict") if escaped else key, int(size), bare(etag or ""))


def read_head(answer: httpx2.Response, listed: StoredObject, what: str) -> StoredObject:
    """The object as its head describes it, which is newer than the listing and knows checksums."""
    headers = answer.headers
    length, etag = headers.get("content-length", ""), bare(headers.get("etag", ""))
    if not re.fullmatch(r"\d{1,18}", length, re.ASCII) or not etag:
        raise IntegrityError(f"{what}: the store told neither size nor ETag")
    return StoredObject(listed.key, int(length), etag, _digest(headers, etag))


def _digest(headers: httpx2.Headers, etag: str) -> str:
    """A digest of the whole content; "" when there is none.

    A multipart upload has checksums of checksums, whose value ends with the number of parts, unless
    its type is FULL_OBJECT. An ETag is an MD5 unless there were parts or a key of the customer's.
    """
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        for algorithm in _CHECKSUMS:
            if found := _hex(headers.get(f"x-amz-checksum-{algorithm}", ""), LENGTHS[algorithm]):
                return f"{algorithm}:{found}"
    plain = headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
    if plain and "x-amz-server-side-encryption-customer-algorithm" not in headers and _MD5.fullmatch(etag):
        return f"md5:{etag}"
    return ""


def _hex(text: str, digits: int) -> str:
    try:
        found = base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""
    return found if len(found) == digits else ""


def bare(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')


def refusal(answer: httpx2.Response, what: str, *, anonymous: bool) -> MxError | TransientError:
    """A final answer in our words: by the code in its body, else by its status (a HEAD has no body)."""
    said = answer.text
    code = _element("Code", said) or _BY_STATUS.get(answer.status_code, "")
    host = answer.url.host
    if code in _PASSING:
        return TransientError(UnavailableError(f"{what}: {host} answered {code}", remedy=_AGAIN))
    if code not in _REFUSALS:
        reason = redact_text(html.unescape(_element("Message", said)))[:200]
        shown = ": ".join(part for part in (code, reason) if part)
        return UnavailableError(
            f"{what}: {host} refused with {answer.status_code}{f' ({shown})' if shown else ''}"
        )
    kind, sentence, remedy = _REFUSALS[code]
    region = answer.headers.get("x-amz-bucket-region", "") or _element("Region", said)
    if kind is PreconditionError and re.fullmatch(r"[a-z0-9-]{1,40}", region):
        remedy = f"set AWS_REGION={region}"
    if kind is PermissionDeniedError and anonymous:
        remedy = "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return kind(f"{what}: {sentence} ({host} answered {answer.status_code} {code})", remedy=remedy)


def _element(name: str, text: str) -> str:
    found = re.search(rf"<{name}>([^<]{{1,1000}})</{name}>", text)
    return found[1].strip() if found else ""
