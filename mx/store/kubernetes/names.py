"""Names of the published layout: kinds, objects, labels, entry keys, times (storage contract, section 4)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mx.core.model import EntryKey, ProviderName
from mx.errors import InvalidArgumentError

GROUP: Final = "modelexpress.nvidia.com"
API_VERSION: Final = f"{GROUP}/v1alpha1"
SOURCE_LABEL: Final = f"{GROUP}/mx-source-id"
WORKER_LABEL: Final = f"{GROUP}/mx-worker-id"
RANK_LABEL: Final = f"{GROUP}/worker"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: how it is called, and where its collection is."""

    kind: str
    plural: str
    api_version: str = API_VERSION

    def path(self, namespace: str) -> str:
        root = "/apis/" if "/" in self.api_version else "/api/"
        return f"{root}{self.api_version}/namespaces/{namespace}/{self.plural}"


SOURCES: Final = Kind("ModelMetadata", "modelmetadatas")
MODELS: Final = Kind("ModelCacheEntry", "modelcacheentries")
CONFIG_MAPS: Final = Kind("ConfigMap", "configmaps", "v1")

# A worker id is a part of an object's name and the value of a label.
_WORKER_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAME_MAX = 253
_DOTTED = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def is_worker_id(text: str) -> bool:
    return _WORKER_ID.fullmatch(text) is not None


def require_worker_id(text: str) -> None:
    """InvalidArgumentError for a worker id that can't be a part of an object's name."""
    if not is_worker_id(text):
        raise InvalidArgumentError(
            f"worker_id {text[:80]!r} can't be the name of a Kubernetes object",
            remedy="use 1 to 63 lower-case letters and digits, and - between them",
        )


def source_name(source_id: str, worker_id: str) -> str:
    return f"mx-source-{source_id}-{worker_id}"


def tensors_name(object_name: str, rank: int) -> str:
    return f"{object_name}-tensors-worker-{rank}"


# --- entries of the cache -------------------------------------------------------------------------
_PROVIDERS: Final = {
    ProviderName.HUGGING_FACE: "HuggingFace",
    ProviderName.NGC: "Ngc",
    ProviderName.GCS: "Gcs",
    ProviderName.S3: "S3",
    ProviderName.LOCAL: "Local",
}
_BY_SPELLING: Final = {spelling: name for name, spelling in _PROVIDERS.items()}


def provider_spelling(provider: ProviderName) -> str:
    return _PROVIDERS[provider]


def provider_of(spelling: str) -> ProviderName | None:
    return _BY_SPELLING.get(spelling)


def entry_key(key: EntryKey) -> str:
    """The published text of a key: the bare name where that says it all."""
    if not key.commit and key.weights and not key.name.startswith("mx1:"):
        return key.name
    return f"mx1:{key.commit}:{'-' if key.weights else 'm'}:{key.name}"


def parse_entry_key(provider: ProviderName, text: str) -> EntryKey:
    """What is malformed is a plain name."""
    parts = text.split(":", 3)
    if len(parts) == 4 and parts[0] == "mx1" and parts[2] in ("m", "-") and parts[3]:
        return EntryKey(provider, parts[3], parts[1], parts[2] == "-")
    return EntryKey(provider, text, "")


def cache_entry_name(provider: ProviderName, key: str) -> str:
    """Object name of an entry key: readable as far as it goes, told apart by a digest.

    The published rule makes names of some keys (``a/.b``) that no object can have; those get the digest
    alone, as keys do that leave nothing to read.
    """
    text = f"{provider_spelling(provider)}/{key}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    readable = _sanitised(text)[: _NAME_MAX - len(f"mx-cache--{digest}")].rstrip("-.")
    return f"mx-cache-{readable}-{digest}" if _DOTTED.fullmatch(readable) else f"mx-cache-{digest}"


def _sanitised(text: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9.-]", "-", text.replace("/", "--"))
    return clean.lower().strip("-.")


# --- times ----------------------------------------------------------------------------------------
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the year 9999


def to_date(unix_ms: int) -> str:
    """RFC 3339 with milliseconds; what no date can say becomes the nearest that it can."""
    moment = _EPOCH + timedelta(milliseconds=min(max(unix_ms, 0), _LAST_MS))
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def is_date(unix_ms: int) -> bool:
    """Whether a date says it exactly."""
    return 0 <= unix_ms <= _LAST_MS


def from_date(text: object) -> int:
    """Unix milliseconds; 0, long ago, for what is none."""
    try:
        moment = datetime.fromisoformat(str(text))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        return 0
