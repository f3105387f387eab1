"""Addresses, credentials and signatures of S3, the last two through botocore.

Only botocore knows every place that AWS credentials may come from (environment, profiles, web
identity, SSO, containers, instances) and how they are renewed. It opens no connection for data.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mx.core.redact import redact_text
from mx.errors import PreconditionError, SettingsError, UnauthenticatedError, UnavailableError
from mx.providers.retry import TransientError

# Names that can be a host label: all new buckets. Others are put into the path.
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z0-9]+){1,4}")
_CREDENTIALS_S = 30.0
_BELIEVED_S = 60.0  # to find that there are none may cost two time-outs
INSTALL = "pip install 'modelexpress-mx[s3]'"


class Keys(NamedTuple):
    """What a request is signed with. ``token`` belongs to temporary credentials."""

    access_key: str
    secret_key: str
    token: str | None = None


FindKeys = Callable[[], Keys | None]


def aws_address(bucket: str, region: str) -> str:
    """Where AWS keeps a bucket, without a slash at the end."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if _LABEL.fullmatch(bucket):
        return f"https://{bucket}.s3.{region}.{domain}"
    return f"https://s3.{region}.{domain}/{bucket}"


def require_region(region: str) -> str:
    """The region as it is; SettingsError for what would make another host of an address."""
    if not _REGION.fullmatch(region):
        raise SettingsError((f"{region[:40]!r} (providers.s3.region, AWS_REGION) is no region of AWS",))
    return region


def is_region(text: str) -> bool:
    return _REGION.fullmatch(text) is not None


def endpoint_address(endpoint: str, *, allow_http: bool) -> str:
    """The address of a compatible store, without a slash at the end; SettingsError.

    Without a scheme it is https, or http where plain HTTP is allowed.
    """
    text = endpoint if "://" in endpoint else f"{'http' if allow_http else 'https'}://{endpoint}"
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or "@" in parts.netloc:
        # The text is not repeated: somebody may have put a password into it.
        raise SettingsError(
            (
                "providers.s3.endpoint (AWS_ENDPOINT_URL) is no address like https://host:port; "
                "credentials don't belong in it",
            )
        )
    return text.rstrip("/")


def find_botocore_keys(*, believed_s: float = _BELIEVED_S) -> FindKeys:
    """Looks for credentials in botocore's order, each time it is called. PreconditionError without it.

    Those of roles renew themselves. Others, and that there are none, are believed for ``believed_s``.
    """
    session_of, exceptions = _botocore("session").Session, _botocore("exceptions")
    renewing = _botocore("credentials").RefreshableCredentials
    found: Any = None
    until_s = float("-inf")

    def find() -> Keys | None:
        nonlocal found, until_s
        try:
            if not isinstance(found, renewing) and time.monotonic() >= until_s:
                found = session_of().get_credentials()
                until_s = time.monotonic() + believed_s
            frozen = None if found is None else found.get_frozen_credentials()
        except exceptions.BotoCoreError as error:
            raise UnauthenticatedError(
                f"the AWS credentials can't be used: {redact_text(str(error))}",
                remedy="check AWS_PROFILE, the AWS variables and the role of this machine",
            ) from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            return None
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    return find


class Signer:
    """Signs requests for S3 (version 4). Without credentials requests go unsigned, as for public buckets."""

    def __init__(self, find: FindKeys) -> None:
        self._find = find
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mx-aws-credentials")
        self._auth = _botocore("auth").S3SigV4Auth
        self._request = _botocore("awsrequest").AWSRequest
        self.anonymous = False

    async def headers(
        self, method: str, url: str, *, region: str, also: Mapping[str, str]
    ) -> Mapping[str, str]:
        """``also`` and what proves who asks for it. UnauthenticatedError for credentials that are broken."""
        keys = await self._keys()
        self.anonymous = keys is None
        if keys is None:
            return also
        request = self._request(method=method, url=url, headers=dict(also))
        self._auth(keys, "s3", region).add_auth(request)
        return {str(name): _text(value) for name, value in request.headers.items()}

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _keys(self) -> Keys | None:
        try:
            async with asyncio.timeout(_CREDENTIALS_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._find)
        except TimeoutError:
            raise TransientError(
                UnavailableError(
                    f"AWS credentials did not come within {_CREDENTIALS_S:g} s",
                    remedy="check the service that this machine gets its role from",
                )
            ) from None


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _botocore(module: str) -> Any:
    try:
        return importlib.import_module(f"botocore.{module}")
    except ImportError:
        raise PreconditionError("models in S3 need botocore, which isn't installed", remedy=INSTALL) from None
