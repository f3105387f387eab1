"""Names of keys. What begins with ``mx:source:`` or ``mx:model:`` belongs to every server that speaks the
storage contract (sections 2 and 3); everything else is ours alone and lies under ``mx:idx:``.

A key that must change together with another one carries it as its hash tag, so that both lie in
one slot of a cluster.
"""

from __future__ import annotations

import re

from mx.core.model import EntryKey, ProviderName
from mx.core.source import WorkerKey

SOURCES = b"mx:source:"
MODELS = b"mx:model:"
LOCAL_MODELS = b"mx:idx:local:"  # directories of this machine: other servers don't know the provider

IDENTITY = b"__attributes__"  # field of a source's hash, beside one field per worker

SOURCE_INDEX = b"mx:idx:sources"  # sorted set: every source as model name, NUL, source id
WORKER_INDEX = b"mx:idx:workers"  # sorted set: every rank of every worker, its status as score
MODEL_INDEX = b"mx:idx:models"  # set: every key of a model
FENCE = b"mx:idx:fence"  # the newest token of all claims
PROBE = b"mx:idx:probe"
RUNS = b"mx:idx:{evictions}"  # sorted set: run ids by start
RUN_RECORDS = b"mx:idx:{evictions}:runs"  # hash: run id to packed run
EVENTS = b"mx:idx:{events}"  # stream: what happened, capped
CHANGES = b"mx:idx:changes:"  # channel, and the number of the database

SOURCE_ID_DIGITS = 16

_PROVIDERS = {
    ProviderName.HUGGING_FACE: "HuggingFace",
    ProviderName.NGC: "Ngc",
    ProviderName.GCS: "Gcs",
    ProviderName.S3: "S3",
}
PROVIDER_NAMES = {name: provider for provider, name in _PROVIDERS.items()}
LOCAL = "Local"
_STRUCTURED = "mx1:"
_SAFE = re.compile(rb"[^{}]*")


def source_key(source_id: str) -> bytes:
    """Hash: identity, and the summary of each worker's rank that was published last."""
    return SOURCES + source_id.encode()


def worker_key(source_id: str, worker_id: str) -> bytes:
    """Hash: per rank the record and, as ``status:RANK``, the part that heartbeats rewrite."""
    return b"%s%s:%s" % (SOURCES, source_id.encode(), worker_id.encode())


def index_key(source_id: str) -> bytes:
    """Hash: what listings need of our workers and a summary does not hold. In the source's slot."""
    return b"mx:idx:of:{%s}" % source_key(source_id)


def packed_key(source_id: str, worker_id: str) -> bytes:
    """Hash: binary copies of the records of a worker. In the worker's slot, if ``has_companions``."""
    return b"mx:idx:packed:{%s}" % worker_key(source_id, worker_id)


def model_extras_key(main: bytes) -> bytes:
    """Hash: what our records hold beyond the contract. In the model's slot, if ``has_companions``."""
    return b"mx:idx:more:{%s}" % main


def has_companions(key: bytes) -> bool:
    """Whether a key with this one as hash tag lies in its slot: braces have a meaning of their own."""
    return _SAFE.fullmatch(key) is not None


def duty_key(duty: str) -> bytes:
    return b"mx:idx:duty:" + duty.encode()


def told_key(happening: str) -> bytes:
    """When something was told last, for a minute. In the slot of the events."""
    return b"mx:idx:{events}:told:" + happening.encode()


def static_field(worker_id: str, rank: int) -> bytes:
    return b"s:%d:%s" % (rank, worker_id.encode())


def peer_field(worker_id: str, rank: int) -> bytes:
    return b"p:%d:%s" % (rank, worker_id.encode())


def status_field(rank: int) -> bytes:
    return b"status:%d" % rank


def rank_field(rank: int) -> bytes:
    return b"%d" % rank


def stamp_field(rank: int) -> bytes:
    """Of a packed record: what the record looked like that it was packed from."""
    return b"%d:of" % rank


def source_member(model_name: str, source_id: str) -> bytes:
    return b"%s\0%s" % (model_name.encode(), source_id.encode())


def worker_member(key: WorkerKey) -> bytes:
    return b"%s\0%d\0%s" % (key.source_id.encode(), key.worker_rank, key.worker_id.encode())


def parse_worker_member(member: bytes) -> WorkerKey:
    source_id, rank, worker_id = member.split(b"\0", 2)
    return WorkerKey(source_id.decode(), worker_id.decode(), int(rank))


def provider_text(provider: ProviderName) -> str:
    return _PROVIDERS.get(provider, LOCAL)


def entry_text(key: EntryKey) -> str:
    """The entry key of the contract: the bare name, or revision, weight mode and name."""
    if not key.commit and key.weights and not key.name.startswith(_STRUCTURED):
        return key.name
    return f"{_STRUCTURED}{key.commit}:{'-' if key.weights else 'm'}:{key.name}"


def parse_entry(provider: ProviderName, text: str) -> EntryKey:
    """What is malformed is a plain name."""
    if text.startswith(_STRUCTURED):
        parts = text.removeprefix(_STRUCTURED).split(":", 2)
        if len(parts) == 3 and parts[1] in ("m", "-") and parts[2]:
            return EntryKey(provider, parts[2], parts[0], parts[1] == "-")
    return EntryKey(provider, text, "", True)


def model_key(key: EntryKey) -> bytes:
    entry = entry_text(key).encode()
    if key.provider is ProviderName.LOCAL:
        return LOCAL_MODELS + entry
    return b"%s%s:%s" % (MODELS, _PROVIDERS[key.provider].encode(), entry)


def parse_model_key(key: bytes) -> EntryKey | None:
    """None for a key that is no model's, or one without a provider as a few old builds wrote."""
    try:
        if key.startswith(LOCAL_MODELS):
            return parse_entry(ProviderName.LOCAL, key.removeprefix(LOCAL_MODELS).decode())
        name, colon, entry = key.removeprefix(MODELS).decode().partition(":")
    except UnicodeDecodeError:
        return None
    provider = PROVIDER_NAMES.get(name)
    if not key.startswith(MODELS) or provider is None or not colon or not entry:
        return None
    return parse_entry(provider, entry)


def unprefixed_key(name: str) -> bytes:
    """Where builds between 0.3.0 and 0.4.0 kept a model, whatever its provider."""
    return MODELS + name.encode()
