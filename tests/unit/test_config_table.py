"""The table of settings against settings.toml, the published names, and the order of precedence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mx.config import Origin, ServiceAccount, load_settings
from mx.config.addresses import Address, Endpoint, Host, RedisUrl, SecureEndpoint
from mx.config.defaults import read_defaults
from mx.config.docs import render
from mx.config.kinds import (
    Choice,
    Duration,
    Flag,
    Integer,
    Kind,
    Maybe,
    Number,
    Paths,
    PathText,
    Place,
    ServiceAccounts,
    Size,
    StringMap,
    Text,
    Words,
)
from mx.config.options import SCOPES, Option, Scope
from mx.config.tree import BY_KEY, TABLE, Settings

ROOT = Path(__file__).parents[2]


def _dotted(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in BY_KEY:
            found |= _dotted(value, f"{key}.")
        else:
            found[key] = value
    return found


def value_at(settings: Settings, path: str) -> Any:
    node: Any = settings
    for name in path.split("."):
        node = getattr(node, name)
    return node


def test_every_setting_has_its_default_and_no_default_is_without_setting() -> None:
    assert list(_dotted(dict(read_defaults().values))) == [one.key for one in TABLE]


@pytest.mark.parametrize("option", TABLE, ids=lambda one: one.key)
def test_every_setting_is_explained_in_one_sentence(option: Option) -> None:
    comment = read_defaults().comments[option.key]
    assert comment.endswith(".")
    assert comment[0].isupper() or comment.split()[0] in ("true", "enforce", "central")


def test_no_environment_name_means_two_things_by_accident() -> None:
    # Names that are meant to reach two settings, each by the contract.
    shared = {
        "MODEL_EXPRESS_CACHE_DIRECTORY",  # the server's root and the client's
        "MX_METRICS_SCHEME",  # label of the server's metrics and the worker's
        "MX_TRANSFER_TIMEOUT",  # weights and artifacts have defaults of their own
        "MX_P2P_LOAD_WEIGHT",  # also the weight inside a tier
        "POD_NAMESPACE",  # the pod itself, and where the resources are
    }
    for scope in SCOPES:
        names: list[str] = []
        for one in TABLE:
            names += one.named_env if scope in one.scopes else ()
            names += one.nested_env
        twice = {name for name in names if names.count(name) > 1}
        assert twice <= shared


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8") == render(), (
        "run: python -m mx.config.docs > docs/reference/settings.md"
    )


# Written down by hand from the published contract, not taken from the table.
PUBLISHED: list[tuple[Scope, str, str, str, Any]] = [
    ("server", "MODEL_EXPRESS_SERVER_HOST", "::1", "server.host", "::1"),
    ("server", "MODEL_EXPRESS_SERVER_PORT", "9000", "server.port", 9000),
    ("server", "MODEL_EXPRESS_SERVER_METRICS_PORT", "0", "server.metrics_port", 0),
    ("server", "MX_METRICS_SCHEME", "blue", "server.metrics_scheme", "blue"),
    ("server", "MODEL_EXPRESS_DATABASE_PATH", "/d/m.db", "database.path", Path("/d/m.db")),
    ("server", "MODEL_EXPRESS_CACHE_DIRECTORY", "/c", "cache.directory", Path("/c")),
    ("client", "MODEL_EXPRESS_CACHE_DIRECTORY", "/c", "cache.local_path", Path("/c")),
    ("server", "MODEL_EXPRESS_CACHE_EVICTION_ENABLED", "off", "cache.eviction.enabled", False),
    ("server", "MODEL_EXPRESS_LOG_LEVEL", "DEBUG", "logging.level", "debug"),
    ("server", "MODEL_EXPRESS_LOG_FORMAT", "Json", "logging.format", "json"),
    ("client", "MODEL_EXPRESS_SECURITY_MODE", "enforce", "security.mode", "enforce"),
    ("server", "MODEL_EXPRESS_SECURITY_TOKEN_AUDIENCES", "a, b", "security.token_audiences", ("a", "b")),
    (
        "server",
        "MODEL_EXPRESS_SECURITY_ALLOWED_SERVICE_ACCOUNTS",
        "ns:sa,n2:s2",
        "security.allowed_service_accounts",
        (ServiceAccount("ns", "sa"), ServiceAccount("n2", "s2")),
    ),
    ("server", "MODEL_EXPRESS_SECURITY_CACHE_TTL_SECS", "5", "security.cache_ttl_s", 5.0),
    ("server", "MX_METADATA_BACKEND", "Redis", "metadata.backend", "redis"),
    ("server", "MX_METADATA_BACKEND", "k8s", "metadata.backend", "kubernetes"),
    ("server", "MX_METADATA_BACKEND", "CRD", "metadata.backend", "kubernetes"),
    ("server", "MX_METADATA_BACKEND", "", "metadata.backend", "sqlite"),
    ("server", "MX_METADATA_BACKEND", "memory", "metadata.backend", "memory"),
    ("server", "REDIS_URL", "redis://r:1/2", "redis.url", "redis://r:1/2"),
    ("server", "MX_REDIS_HOST", "r", "redis.url", "redis://r:6379"),
    ("server", "REDIS_HOST", "r", "redis.url", "redis://r:6379"),
    ("server", "MX_REDIS_PORT", "7", "redis.url", "redis://localhost:7"),
    ("server", "REDIS_PORT", "7", "redis.url", "redis://localhost:7"),
    ("server", "MX_METADATA_NAMESPACE", "n", "kubernetes.namespace", "n"),
    ("server", "POD_NAMESPACE", "n", "kubernetes.namespace", "n"),
    ("server", "MX_STATUS_TTL_SECS", "100", "sources.status_ttl_s", 100.0),
    ("server", "MX_HEARTBEAT_TIMEOUT_SECS", "9", "sources.heartbeat_timeout_s", 9.0),
    ("server", "MX_REAPER_SCAN_INTERVAL_SECS", "3", "sources.reaper_interval_s", 3.0),
    ("server", "MX_GC_TIMEOUT_SECS", "4", "sources.gc_timeout_s", 4.0),
    ("server", "MODEL_EXPRESS_S3_TIMEOUT_SECS", "8", "providers.s3.timeout_s", 8.0),
    ("client", "MODEL_EXPRESS_ENDPOINT", "h:1", "client.endpoint", "http://h:1"),
    ("client", "MODEL_EXPRESS_TIMEOUT", "7", "client.timeout_s", 7.0),
    ("client", "MODEL_EXPRESS_MAX_RETRIES", "3", "client.max_retries", 3),
    ("client", "MODEL_EXPRESS_RETRY_DELAY", "2", "client.retry_delay_s", 2.0),
    ("client", "MODEL_EXPRESS_NO_SHARED_STORAGE", "1", "cache.shared_storage", False),
    ("worker", "MODEL_EXPRESS_NO_SHARED_STORAGE", "yes", "cache.shared_storage", False),
    ("client", "MODEL_EXPRESS_TRANSFER_CHUNK_SIZE", "4294967295", "cache.transfer_chunk_bytes", 2**32 - 1),
    ("client", "MODEL_EXPRESS_SERVER_ENDPOINT", "https://h:1", "cache.server_endpoint", "https://h:1"),
    ("client", "MX_AUTH_TOKEN_PATH", "/t", "client.auth_token_path", Path("/t")),
    ("client", "MX_AUTH_TOKEN_TTL_SECONDS", "9", "client.auth_token_ttl_s", 9.0),
    ("worker", "MODEL_EXPRESS_URL", "http://h:1", "worker.server_address", "h:1"),
    ("worker", "MX_SERVER_ADDRESS", "h:1", "worker.server_address", "h:1"),
    ("worker", "MX_REGISTER_LOADERS", "0", "worker.register_loaders", False),
    ("worker", "MX_CONTIGUOUS_REG", "1", "worker.contiguous_reg", True),
    ("worker", "MX_SKIP_FEATURE_CHECK", "1", "worker.skip_feature_check", True),
    ("worker", "MX_P2P_METADATA", "1", "worker.p2p_metadata", True),
    ("worker", "MX_METADATA_PORT", "0", "worker.metadata_port", 0),
    ("worker", "MX_WORKER_GRPC_PORT", "6555", "worker.grpc_port", 6555),
    ("worker", "MX_WORKER_HOST", "10.0.0.1", "worker.host", "10.0.0.1"),
    ("worker", "MX_MODEL_URI", "s3://b/m", "worker.streamer.model_uri", "s3://b/m"),
    ("worker", "RUNAI_STREAMER_CONCURRENCY", "2", "worker.streamer.concurrency", 2),
    ("worker", "RUNAI_STREAMER_MEMORY_LIMIT", "0", "worker.streamer.memory_limit_bytes", 0),
    ("worker", "RUNAI_STREAMER_MEMORY_LIMIT", "-1", "worker.streamer.memory_limit_bytes", None),
    ("worker", "MX_METADATA_BACKEND", "service", "worker.metadata_backend", "k8s-service"),
    ("worker", "MX_METADATA_BACKEND", "k8s-service", "worker.metadata_backend", "k8s-service"),
    ("worker", "MX_METADATA_BACKEND", "redis", "worker.metadata_backend", "central"),
    ("worker", "MX_METADATA_BACKEND", "server", "worker.metadata_backend", "central"),
    ("worker", "MX_K8S_SERVICE_PATTERN", "s-{rank}", "worker.k8s_service_pattern", "s-{rank}"),
    ("worker", "MX_K8S_SOURCE_RETRIES", "1", "worker.k8s_source_retries", 1),
    ("worker", "MX_K8S_SOURCE_BACKOFF_SECONDS", "0.25", "worker.k8s_source_backoff_s", 0.25),
    ("worker", "MX_HEARTBEAT_INTERVAL_SECS", "3", "worker.heartbeat_interval_s", 3.0),
    ("worker", "MX_PUBLISH_TIMEOUT_SECS", "3", "worker.publish_timeout_s", 3.0),
    ("worker", "MX_MODEL_REVISION", "v1", "worker.model_revision", "v1"),
    ("worker", "MX_P2P_SOURCE_SELECTOR", "load_aware", "worker.source_selector", "load_aware"),
    ("worker", "MX_P2P_LOAD_WEIGHT", "2.5", "worker.load_weight", 2.5),
    ("worker", "MX_P2P_LOAD_WEIGHT", "2.5", "worker.topology_load_weight", 2.5),
    ("worker", "MX_P2P_TOPOLOGY_LOAD_WEIGHT", "1.5", "worker.topology_load_weight", 1.5),
    ("worker", "MX_P2P_RUNTIME_METRICS_URL", "http://l", "worker.runtime_metrics_url", "http://l"),
    ("worker", "MX_P2P_TOPOLOGY_LEVELS", "Zone,rack", "worker.topology_levels", ("zone", "rack")),
    ("worker", "MX_P2P_TOPOLOGY", '{"zone": "a"}', "worker.topology", {"zone": "a"}),
    ("worker", "DYN_TOPOLOGY_MOUNT_PATH", "/t", "worker.topology_mount_path", Path("/t")),
    ("worker", "MX_TRANSFER_TIMEOUT", "50", "transfer.timeout_s", 50.0),
    ("worker", "MX_TRANSFER_TIMEOUT", "50", "worker.artifacts.timeout_s", 50.0),
    ("worker", "MX_LOAD_STRATEGY_CHAIN", "rl", "worker.load_strategy_chain", "RL"),
    ("worker", "MX_NIXL_BACKEND", "libfabric", "transfer.nixl_backend", "LIBFABRIC"),
    ("worker", "MX_POOL_REG", "1", "worker.pool_reg", True),
    ("worker", "MX_RDMA_NIC_PIN", "auto", "worker.rdma_nic_pin", "auto"),
    ("worker", "MX_RDMA_NIC_PIN_MIN_RATE_GBPS", "200", "worker.rdma_nic_pin_min_rate_gbps", 200.0),
    ("worker", "MX_UCX_DISABLE_MEM_EVENTS", "1", "worker.ucx_disable_mem_events", True),
    ("worker", "NIXL_UCX_TLS", "rc", "transfer.nixl_ucx_tls", "rc"),
    ("worker", "UCX_TLS", "tcp", "transfer.ucx_tls", "tcp"),
    ("worker", "UCX_NET_DEVICES", "mlx5_0:1", "transfer.ucx_net_devices", "mlx5_0:1"),
    ("worker", "MX_MS_DISTRIBUTED", "0", "worker.streamer.distributed", False),
    ("worker", "MX_INSTANT_TENSOR", "0", "worker.streamer.instant_tensor", False),
    ("worker", "MX_GDS_MAX_CHUNK_KB", "4", "worker.gds.max_chunk_kib", 4),
    ("worker", "MX_GDS_THREADS", "4", "worker.gds.threads", 4),
    ("worker", "MX_GDS_TIMEOUT", "4", "worker.gds.timeout_s", 4.0),
    ("worker", "MX_ARTIFACT_TRANSFER", "1", "worker.artifacts.enabled", True),
    ("worker", "MX_ARTIFACT_TRANSFER_CHUNK_SIZE", "4294967296", "worker.artifacts.chunk_bytes", 2**32),
    ("worker", "MX_ARTIFACT_BUNDLE_ROOT", "/b", "worker.artifacts.bundle_root", Path("/b")),
    ("worker", "MX_ARTIFACT_COMPILE_CONFIG_DIGEST", "d", "worker.artifacts.compile_config_digest", "d"),
    ("worker", "MX_ARTIFACT_READY_URL", "http://l", "worker.artifacts.ready_url", "http://l"),
    ("worker", "MX_ARTIFACT_READY_TIMEOUT_SECS", "4", "worker.artifacts.ready_timeout_s", 4.0),
    ("worker", "MX_DISABLE_PATCHES", "1", "worker.disable_patches", True),
    ("worker", "MX_METRICS_ENABLED", "1", "worker.metrics.enabled", True),
    ("worker", "MX_METRICS_PORT", "9", "worker.metrics.port", 9),
    ("worker", "MX_METRICS_PUSHGATEWAY", "http://p", "worker.metrics.pushgateway", "http://p"),
    ("worker", "MX_METRICS_SCHEME", "s", "worker.metrics.scheme", "s"),
    ("worker", "MX_METRICS_BIND_RETRY_SECS", "1", "worker.metrics.bind_retry_s", 1.0),
    ("worker", "MX_METRICS_SOURCE_ID_LABEL", "1", "worker.metrics.source_id_label", True),
    ("worker", "PROMETHEUS_MULTIPROC_DIR", "/p", "worker.metrics.multiproc_dir", Path("/p")),
    ("worker", "POD_NAME", "p", "pod.name", "p"),
    ("worker", "POD_UID", "u", "pod.uid", "u"),
    ("worker", "POD_NAMESPACE", "n", "pod.namespace", "n"),
    ("worker", "HOSTNAME", "h", "pod.hostname", "h"),
    ("worker", "LWS_LEADER_ADDRESS", "l", "pod.leader_address", "l"),
    ("server", "HF_TOKEN", "t", "providers.huggingface.token", "t"),
    ("server", "HUGGING_FACE_HUB_TOKEN", "t", "providers.huggingface.token", "t"),
    ("server", "HF_ENDPOINT", "http://m:1", "providers.huggingface.endpoint", "http://m:1"),
    ("server", "HF_HUB_OFFLINE", "YES", "providers.huggingface.offline", True),
    ("server", "HF_HOME", "/h", "providers.huggingface.hub_cache", Path("/h/hub")),
    ("server", "HF_HOME", "/h", "providers.huggingface.token_path", Path("/h/token")),
    ("server", "HF_HUB_CACHE", "/h", "providers.huggingface.hub_cache", Path("/h")),
    ("server", "HF_TOKEN_PATH", "/h", "providers.huggingface.token_path", Path("/h")),
    ("server", "NGC_API_KEY", "k", "providers.ngc.api_key", "k"),
    ("server", "NGC_CLI_API_KEY", "k", "providers.ngc.api_key", "k"),
    ("server", "NGC_CLI_HOME", "/n", "providers.ngc.cli_home", Path("/n")),
    ("server", "NGC_API_ENDPOINT", "https://n", "providers.ngc.api_endpoint", "https://n"),
    ("server", "NGC_AUTH_ENDPOINT", "https://n", "providers.ngc.auth_endpoint", "https://n"),
    ("server", "AWS_REGION", "eu-1", "providers.s3.region", "eu-1"),
    ("server", "AWS_DEFAULT_REGION", "eu-1", "providers.s3.region", "eu-1"),
    ("server", "AWS_ENDPOINT_URL", "http://s", "providers.s3.endpoint", "http://s"),
    ("server", "AWS_ENDPOINT", "http://s", "providers.s3.endpoint", "http://s"),
    ("server", "S3_ENDPOINT", "http://s", "providers.s3.endpoint", "http://s"),
    ("server", "AWS_ALLOW_HTTP", "1", "providers.s3.allow_http", True),
    ("server", "GOOGLE_APPLICATION_CREDENTIALS", "/g", "providers.gcs.credentials_path", Path("/g")),
]


@pytest.mark.parametrize(("scope", "name", "raw", "path", "expected"), PUBLISHED)
def test_every_published_name_works(
    scope: Scope, name: str, raw: str, path: str, expected: Any, tmp_path: Path
) -> None:
    changes: dict[str, str] = (
        {"MX_HEARTBEAT_TIMEOUT_SECS": "90"} if name != "MX_HEARTBEAT_TIMEOUT_SECS" else {}
    )
    settings = load_settings(environ={"HOME": str(tmp_path), **changes, name: raw}, cwd=tmp_path, scope=scope)
    assert value_at(settings, path) == expected
    assert settings.explicit(path) == bool(raw)


PUBLISHED_DEFAULTS: list[tuple[Scope, str, Any]] = [
    ("server", "server.host", "0.0.0.0"),
    ("server", "server.port", 8001),
    ("server", "server.metrics_port", 9401),
    ("server", "cache.max_size_bytes", None),
    ("server", "cache.eviction.enabled", True),
    ("server", "cache.eviction.check_interval_s", 3600.0),
    ("server", "cache.eviction.policy.type", "lru"),
    ("server", "cache.eviction.policy.unused_threshold_s", 7 * 86400.0),
    ("server", "cache.eviction.policy.max_models", None),
    ("server", "cache.eviction.policy.min_free_space_bytes", None),
    ("server", "logging.level", "info"),
    ("server", "logging.format", "pretty"),
    ("server", "logging.file", None),
    ("server", "logging.structured", False),
    ("server", "security.mode", "off"),
    ("server", "security.cache_ttl_s", 60.0),
    ("server", "metadata.backend", "sqlite"),
    ("server", "database.backend", "auto"),
    ("server", "redis.url", "redis://localhost:6379"),
    ("server", "kubernetes.namespace", "default"),
    ("server", "sources.heartbeat_timeout_s", 90.0),
    ("server", "sources.reaper_interval_s", 30.0),
    ("server", "sources.gc_timeout_s", 3600.0),
    ("server", "sources.status_ttl_s", 3600.0),
    ("server", "providers.s3.region", "us-east-1"),
    ("server", "providers.s3.timeout_s", 3600.0),
    ("client", "client.endpoint", "http://localhost:8001"),
    ("client", "client.timeout_s", 30.0),
    ("client", "cache.shared_storage", True),
    ("client", "cache.transfer_chunk_bytes", 32768),
    ("client", "cache.server_endpoint", "http://localhost:8001"),
    ("client", "client.auth_token_path", Path("/var/run/secrets/tokens/modelexpress")),
    ("client", "client.auth_token_ttl_s", 60.0),
    ("worker", "worker.server_address", "localhost:8001"),
    ("worker", "worker.register_loaders", True),
    ("worker", "worker.contiguous_reg", False),
    ("worker", "worker.skip_feature_check", False),
    ("worker", "worker.p2p_metadata", False),
    ("worker", "worker.metadata_port", 5555),
    ("worker", "worker.grpc_port", 0),
    ("worker", "worker.host", None),
    ("worker", "worker.heartbeat_interval_s", 30.0),
    ("worker", "worker.publish_timeout_s", 1800.0),
    ("worker", "worker.source_selector", "random"),
    ("worker", "worker.load_weight", 1.0),
    ("worker", "worker.topology_load_weight", 0.0),
    ("worker", "worker.k8s_source_retries", 5),
    ("worker", "worker.k8s_source_backoff_s", 0.5),
    ("worker", "worker.streamer.concurrency", 8),
    ("worker", "worker.streamer.memory_limit_bytes", None),
    ("worker", "worker.gds.max_chunk_kib", 131072),
    ("worker", "worker.gds.threads", 8),
    ("worker", "worker.gds.timeout_s", 120.0),
    ("worker", "worker.artifacts.chunk_bytes", 67108864),
    ("worker", "worker.artifacts.ready_timeout_s", 1800.0),
    ("worker", "worker.artifacts.timeout_s", 900.0),
    ("worker", "worker.metrics.bind_retry_s", 15.0),
    ("worker", "transfer.timeout_s", 300.0),
    ("worker", "transfer.segment_bytes", 64 * 1024**2),
    ("worker", "transfer.nixl_backend", "UCX"),
]


@pytest.mark.parametrize("scope", SCOPES)
def test_published_defaults(scope: Scope, tmp_path: Path) -> None:
    settings = load_settings(environ={"HOME": str(tmp_path)}, cwd=tmp_path, scope=scope)
    for owner, path, expected in PUBLISHED_DEFAULTS:
        if owner == scope:
            assert (path, value_at(settings, path)) == (path, expected)
            assert not settings.explicit(path)


def _samples(kind: Kind) -> tuple[object, object, object]:
    """For a file, the environment and a flag; each differs from the one before."""
    match kind:
        case Maybe():
            return _samples(kind.kind)
        case Flag():
            return "FLIP", "KEEP", "FLIP"
        case Choice():
            words = [*kind.words, *kind.words]
            return words[1], words[0], words[1]
        case Integer():
            return kind.least + 101, str(kind.least + 102), kind.least + 103
        case Number(most=1.0):
            return 0.95, "0.96", 0.97
        case Number():
            return 11.5, "12.5", 13.5
        case Duration():
            return "2d", "51h", 200_000
        case Size():
            return "2MiB", "3MiB", 4 * 1024**2
        case PathText():
            return "/a", "/b", Path("/c")
        case Endpoint() | Address():
            return "a.example:1", "b.example:2", "c.example:3"
        case SecureEndpoint():
            return "a.example:1", "http://b.example:2", "https://c.example:3"
        case RedisUrl():
            return "redis://a", "redis://b", "redis://c"
        case Host():
            return "a.example", "b.example", "c.example"
        case Paths():
            return ["/a", "/a"], "/b,/c", ["/d"]
        case Words():
            return ["a"], "b,c", ["d"]
        case StringMap():
            return {"a": "1"}, '{"b": "2"}', {"c": "3"}
        case ServiceAccounts():
            return [{"namespace": "a", "service_account": "b"}], "c:d", "e:f"
        case Text():
            return "aa", "bb", "cc"
    raise AssertionError(f"no samples for {kind}")


def _nested(key: str, value: object) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("option", TABLE, ids=lambda one: one.key)
def test_flag_beats_environment_beats_file_beats_default(option: Option, tmp_path: Path) -> None:
    place = Place(cwd=tmp_path, home=tmp_path, temp=tmp_path)
    # The server's scope has rules that join settings; this test is about one at a time.
    scope: Scope = "client" if "client" in option.scopes else option.scopes[0]
    name = (option.env or option.nested_env)[0]
    environ = {"HOME": str(tmp_path)}
    default = value_at(load_settings(environ=environ, cwd=tmp_path, scope=scope), option.path)
    raws = [
        (not default if raw == "FLIP" else default) if raw in ("FLIP", "KEEP") else raw
        for raw in _samples(option.kind)
    ]
    in_file, in_env, in_flag = raws
    in_env = json.dumps(in_env) if isinstance(in_env, bool) else in_env
    assert isinstance(in_env, str)
    expected = [option.kind.parse(raw, place) for raw in (in_file, in_env, in_flag)]
    file = tmp_path / "s.yaml"
    file.write_text("{}" if option.env_only else json.dumps(_nested(option.key, in_file)))

    def load(**layers: Any) -> tuple[Any, Origin]:
        settings = load_settings(cwd=tmp_path, scope=scope, **{"environ": environ, **layers})
        return value_at(settings, option.path), settings.origins[option.key]

    if not option.env_only:
        assert load(config_file=file) == (expected[0], Origin("file", str(file)))
    assert load(config_file=file, environ={**environ, name: in_env}) == (expected[1], Origin("env", name))
    flags = {option.key: in_flag}
    all_layers = load(config_file=file, environ={**environ, name: in_env}, flags=flags)
    assert all_layers == (expected[2], Origin("flag"))
    assert load(config_file=file, flags={option.path: in_flag}) == (expected[2], Origin("flag"))


@pytest.mark.parametrize("option", TABLE, ids=lambda one: one.key)
def test_names_made_from_the_key_work_and_are_second(option: Option, tmp_path: Path) -> None:
    scope: Scope = "client" if "client" in option.scopes else option.scopes[0]
    raw = _samples(option.kind)[1]
    text = "true" if raw == "KEEP" else str(raw)
    for name in option.nested_env:
        settings = load_settings(environ={"HOME": str(tmp_path), name: text}, cwd=tmp_path, scope=scope)
        assert settings.origins[option.key] == Origin("env", name)
        if option.env:
            both = {"HOME": str(tmp_path), name: text, option.env[0]: text}
            settings = load_settings(environ=both, cwd=tmp_path, scope=scope)
            assert settings.origins[option.key] == Origin("env", option.env[0])
