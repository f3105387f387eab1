"""Access tokens for Google Cloud, through google-auth: it knows every place that they come from.

Service accounts, users of gcloud, workload identity, other clouds' identities and the metadata
service of machines. It opens no connection for data.
"""

from __future__ import annotations

import asyncio
import importlib
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mx.core.redact import redact_text
from mx.errors import PreconditionError, UnauthenticatedError, UnavailableError
from mx.providers.retry import TransientError

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)
_TOKEN_S = 60.0
_BELIEVED_S = 60.0  # to find that there are none takes seconds of asking for a metadata service
# What google-auth lets through when it reads a file that holds something else.
_NO_CREDENTIALS = (OSError, ValueError, TypeError, KeyError, AttributeError)
INSTALL = "pip install 'modelexpress-mx[gcs]'"


class GoogleTokens:
    """The credentials of a file, else the default ones of the environment, else none: see ``Tokens``.

    PreconditionError when google-auth is not installed.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._auth = _library("google.auth")
        self._errors = _library("google.auth.exceptions")
        self._transport = _library("google.auth.transport.requests")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mx-google-credentials")
        self._credentials: Any = None
        self._stranger_until_s = float("-inf")
        self.anonymous = False

    async def headers(self) -> Mapping[str, str]:
        """The header with a token that is valid now; nothing for strangers. UnauthenticatedError."""
        try:
            async with asyncio.timeout(_TOKEN_S):
                token = await asyncio.get_running_loop().run_in_executor(self._thread, self._token)
        except TimeoutError:
            raise TransientError(
                UnavailableError(
                    f"a Google access token did not come within {_TOKEN_S:g} s",
                    remedy="check that oauth2.googleapis.com or the metadata service can be reached",
                )
            ) from None
        self.anonymous = token is None
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _token(self) -> str | None:
        """Runs in the one thread of this object."""
        try:
            if self._credentials is None and time.monotonic() >= self._stranger_until_s:
                self._credentials = self._find()
                self._stranger_until_s = time.monotonic() + _BELIEVED_S
            if self._credentials is None:
                return None
            if not self._credentials.valid:
                self._credentials.refresh(self._transport.Request())
            return str(self._credentials.token)
        except self._errors.TransportError as error:
            raise TransientError(
                UnavailableError(
                    f"no Google access token: {_words(error)}", remedy="check the network, or try again later"
                )
            ) from error
        except (self._errors.GoogleAuthError, *_NO_CREDENTIALS) as error:
            self._credentials = None  # the file may be mended meanwhile
            raise UnauthenticatedError(
                f"the Google credentials can't be used: {_words(error)}",
                remedy="check GOOGLE_APPLICATION_CREDENTIALS (providers.gcs.credentials_path)",
            ) from error

    def _find(self) -> Any:
        if self._path is not None:
            with warnings.catch_warnings():
                # It warns of files that strangers hand in; this one the operator named.
                warnings.simplefilter("ignore", DeprecationWarning)
                return self._auth.load_credentials_from_file(str(self._path), scopes=_SCOPES)[0]
        try:
            return self._auth.default(scopes=_SCOPES)[0]
        except self._errors.DefaultCredentialsError:
            return None


def _words(error: Exception) -> str:
    return redact_text(str(error)).replace("\n", " ")[:300]


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise PreconditionError(
            "models in Google Cloud Storage need google-auth and requests, and one isn't installed",
            remedy=INSTALL,
        ) from None
