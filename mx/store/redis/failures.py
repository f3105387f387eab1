"""Redis's errors in our words: what happened, to which Redis, what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis import exceptions as redis_errors
from redis.asyncio.sentinel import MasterNotFoundError

from mx.errors import (
    InvalidArgumentError,
    MxError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

# RedisClusterException is no RedisError; OSError and UnicodeError leave the library in corners.
LIBRARY_ERRORS = (redis_errors.RedisError, redis_errors.RedisClusterException, OSError, UnicodeError)

_IN_CLUSTER = "is a node of a cluster"
_USE_CLUSTER = "write redis+cluster://host:port for it"
_USE_PRIMARY = "point REDIS_URL at the primary, or write redis+sentinel:// so that mx follows it"


@dataclass(frozen=True, slots=True)
class _Row:
    """Chosen by the error's class, or by a word of Redis in its text: scripts wrap errors of others."""

    says: str
    remedy: str
    kinds: tuple[type[Exception], ...] = ()
    words: tuple[str, ...] = ()
    opening: Callable[..., MxError] = UnavailableError

    def fits(self, error: Exception, text: str) -> bool:
        return isinstance(error, self.kinds) or any(word in text for word in self.words)


_TABLE = (
    _Row(
        "refuses the user name or password",
        "check both in REDIS_URL, redis://user:password@host; write / # ? @ : and % in them percent-encoded",
        (redis_errors.AuthenticationError, redis_errors.AuthenticationWrongNumberOfArgsError),
        ("WRONGPASS", "NOAUTH"),
        UnauthenticatedError,
    ),
    _Row(
        "does not let this user do what mx must do",
        "allow it the keys mx:*, the channels mx:* and the commands that docs/howto/redis.md lists",
        (redis_errors.NoPermissionError, redis_errors.AuthorizationError),
        ("NOPERM", "The user executing the script"),
        PermissionDeniedError,
    ),
    _Row("is loading its data", "wait until it has", (redis_errors.BusyLoadingError,), ("LOADING",)),
    _Row("is a read-only replica", _USE_PRIMARY, (redis_errors.ReadOnlyError,), ("READONLY",)),
    _Row(
        "is out of memory",
        "raise its maxmemory, or give mx a Redis of its own; what mx keeps is small",
        (redis_errors.OutOfMemoryError,),
        ("OOM ",),
    ),
    _Row(
        "refuses writes since it can't save to its disk",
        "free space for it, or turn saving off: mx can rebuild what it keeps there",
        words=("MISCONF",),
    ),
    _Row("refuses writes: too few replicas", "bring its replicas back", words=("NOREPLICAS",)),
    _Row(
        "is a cluster that is down or has no primary for a key",
        "look at CLUSTER INFO on its nodes",
        (redis_errors.ClusterDownError, redis_errors.MasterDownError, redis_errors.SlotNotCoveredError),
        ("CLUSTERDOWN", "MASTERDOWN"),
    ),
    _Row(
        _IN_CLUSTER,
        _USE_CLUSTER,
        (redis_errors.MovedError, redis_errors.AskError, redis_errors.ClusterCrossSlotError),
        ("Cluster mode is not enabled",),
    ),
    _Row(
        "is moving keys between nodes",
        "try again",
        (redis_errors.TryAgainError,),
    ),
    _Row(
        "has no primary that its Sentinels agree on",
        "look at SENTINEL MASTERS, and at the service's name in REDIS_URL",
        (MasterNotFoundError,),
    ),
    _Row("has no connection left for us", "raise its maxclients", words=("max number of clients",)),
    _Row("is busy with a script of somebody else", "SCRIPT KILL ends it", words=("BUSY ",)),
    _Row(
        "holds a key of another type than mx and published servers write",
        "find it with TYPE below mx:source:*, mx:model:* or mx:idx:* and delete it",
        words=("WRONGTYPE",),
    ),
    _Row(
        "has a certificate that is not trusted here, or wants one from us",
        "set redis.ca_file, redis.cert_file and redis.key_file",
        words=("CERTIFICATE_", "certificate", "[SSL"),
    ),
)


def translate(error: Exception, where: str, *, opening: bool = False) -> MxError:
    """The one table from Redis's errors to ours. While running, every one means unavailable."""
    if isinstance(error, UnicodeError | redis_errors.DataError):
        return InvalidArgumentError(f"a value can't be stored in {where}: {error}")
    text = str(error)
    for row in _TABLE:
        if row.fits(error, text):
            kind = row.opening if opening else UnavailableError
            return kind(f"{where} {row.says}{_quoted(text)}", remedy=row.remedy)
    if isinstance(error, redis_errors.TimeoutError | TimeoutError):
        return late(where)
    if isinstance(error, redis_errors.ConnectionError | OSError):
        return UnavailableError(
            f"{where} can't be reached{_quoted(text)}", remedy="see that it runs and that REDIS_URL is right"
        )
    return UnavailableError(f"{where} refused a call{_quoted(text)}")


def is_read_only(error: Exception) -> bool:
    return isinstance(error, redis_errors.ReadOnlyError) or "READONLY" in str(error)


def part_of_cluster(where: str) -> UnavailableError:
    return UnavailableError(f"{where} {_IN_CLUSTER}", remedy=_USE_CLUSTER)


def late(where: str, *, within_s: float | None = None) -> UnavailableError:
    bound = "in time" if within_s is None else f"within {within_s:g} s"
    return UnavailableError(
        f"{where} did not answer {bound}",
        remedy="see that it runs and is not overloaded: redis-cli --latency",
    )


def closed(where: str) -> UnavailableError:
    return UnavailableError(f"{where} is closed here")


def _quoted(text: str) -> str:
    # "unknown command 'AUTH', with args beginning with: …" would repeat the password.
    line = text.partition(", with args")[0].partition("\n")[0][:200].rstrip(". ")
    return f": {line}" if line else ""
