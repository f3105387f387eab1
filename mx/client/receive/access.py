"""A complete entry at the server, open for us: its files and their digests, and where they are served."""

from __future__ import annotations

import math
import uuid
from contextlib import suppress

from mx.client.operations import NotOfferedError
from mx.client.receive.http import Door, find_door
from mx.client.receive.rules import ReceiveRules
from mx.client.receive.streams import pinned
from mx.client.sync import SyncClient
from mx.core.cached import CachedEntry, OpenedFiles
from mx.core.model import EntryKey, ListedFile, Listing, ProviderName, is_weight_file
from mx.errors import MxError, NotFoundError, PreconditionError
from mx.logs import event_log

log = event_log(__name__)


class ChangedError(PreconditionError):
    """The server has other files under this key by now: stage them anew."""


class Access:
    """Held open by renewing; close it. A server without mx's own calls gives names and sizes only."""

    def __init__(self, client: SyncClient, key: EntryKey, *, holder: str, rules: ReceiveRules) -> None:
        self._client = client
        self._key = key
        self._holder = holder
        self._rules = rules
        self._undigested = uuid.uuid4().hex
        self.opened = self._open()

    @property
    def renew_after_s(self) -> float:
        return self.opened.life_s / 3

    def listing(self) -> Listing:
        """What is to be staged. Without digests bytes of an earlier attempt may be of other files: they
        count only where a commit says what they are."""
        opened = self.opened
        etag = "" if self._key.commit else self._undigested
        return Listing(
            self._key,
            tuple(
                ListedFile(f.path, f.size_bytes, f.digest, etag="" if f.digest else etag, xxh3=f.xxh3)
                for f in opened.files
            ),
        )

    def same_as(self, entry: CachedEntry) -> bool:
        """Whether an entry holds these files; as far as sizes tell, where there are no digests."""
        here = {file.path: file for file in entry.files}
        return all(
            (file := here.get(f.path)) is not None
            and file.size_bytes == f.size_bytes
            and f.digest in ("", file.digest)
            for f in self.opened.files
        ) and len(self.opened.files) == len([p for p in here if self._key.weights or not is_weight_file(p)])

    def door(self) -> Door | None:
        """Where HTTP serves these files; None when they must come over gRPC."""
        if not self._rules.http or not self.opened.ticket:
            return None
        rules = self._rules
        return find_door(
            self.opened, (host_of(self._client.target),), connect_s=rules.connect_s, silence_s=rules.silence_s
        )

    def renew(self) -> None:
        """NotFoundError when the ticket is not known any more."""
        if self.opened.ticket:
            self._client.renew_files(self.opened.ticket)

    def require_same(self, failure: MxError) -> None:
        """After a failure: that the server still has these files, with a ticket that it knows.

        ChangedError when it has others now, NotFoundError when it has none.
        """
        if not self.opened.ticket and isinstance(failure, NotFoundError):
            raise failure
        try:
            self.renew()
        except NotFoundError:
            self.reopen(failure)

    def reopen(self, failure: MxError) -> None:
        """Have the server look at its files anew; ChangedError and NotFoundError as above."""
        before = self.opened
        self.close()
        self.opened = self._open()
        if self.opened.files != before.files:
            raise ChangedError(f"{self._key}: the server has other files by now") from failure

    def close(self) -> None:
        if self.opened.ticket:
            with suppress(MxError):  # it expires by itself
                self._client.close_files(self.opened.ticket)

    def _open(self) -> OpenedFiles:
        try:
            return self._client.open_files(self._key, holder=self._holder)
        except NotOfferedError:
            log.info("server without tickets: files come over gRPC", server=self._client.target)
        if self._key.provider is ProviderName.LOCAL:
            raise PreconditionError(
                f"{self._key}: this server can't send local models", remedy="use an mx server"
            )
        files = self._client.list_files(pinned(self._key), weights=self._key.weights)
        kept = tuple(f for f in files if self._key.weights or not is_weight_file(f.path))
        return OpenedFiles(self._key, kept, ticket="", life_s=math.inf)


def host_of(target: str) -> str:
    """The host of a gRPC target, as a socket takes it; this machine for a Unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return "localhost"
    address = target.rpartition("/")[2] if "://" in target else target
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    host = address.rpartition(":")[0] if not address.endswith("]") else address
    return host.removeprefix("[").removesuffix("]") or "localhost"
