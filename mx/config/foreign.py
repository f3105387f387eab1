"""Names that mx knows and does nothing with: they pass, and a notice says so once."""

from __future__ import annotations

import re

# Reinforcement learning, the allocation arena, TensorRT-LLM, build time: known to ModelExpress only.
_NAMES = frozenset(
    {
        "MODEL_NAME",
        "MX_ARENA_SINGLE_MR",
        "MX_GENERATOR_SOURCE_ORDER",
        "MX_REDIS_URL",
        "MX_SKIP_EXT",
        "MX_SOURCE_QUERY_TIMEOUT",
        "MX_TRANSFER_LOG_DIR",
        "MX_VMM_ARENA",
        "MX_WEIGHT_PAYLOAD_FORMAT",
        "RUST_LOG",
    }
)
_PREFIXES = ("MX_TRAINER_", "MX_REFIT_", "MX_RESHARD_", "MX_S3_")

# Top-level sections that other servers of this family read from the same file.
SECTIONS = frozenset({"dht", "metrics", "p2p", "refit", "reshard", "rl", "tracing", "trainer"})

# What Kubernetes sets in every pod for a Service: NAME_SERVICE_HOST, NAME_PORT=tcp://1.2.3.4:80 …
_SERVICE_LINK_NAME = re.compile(
    r".*_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|.*_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?"
)
_SERVICE_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:[0-9]+")


def is_foreign_env(name: str) -> bool:
    """Whether ModelExpress knows this variable and mx does not use it."""
    return name in _NAMES or name.startswith(_PREFIXES)


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made this variable for a Service.

    A Service called ``redis`` gives every pod ``REDIS_PORT=tcp://10.0.0.1:6379``, and one called
    ``model-express-server`` gives MODEL_EXPRESS_SERVER_PORT: nobody's setting.
    """
    return name.endswith("_PORT") and _SERVICE_LINK_VALUE.fullmatch(value) is not None


def looks_like_service_link(name: str) -> bool:
    """Whether a name that mx does not know has the form of such a variable."""
    return _SERVICE_LINK_NAME.fullmatch(name) is not None
