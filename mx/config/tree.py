"""The settings of mx, as frozen dataclasses; each field says which names it has outside.

This file is the table of names: what is not here is no setting. Defaults and the sentence that
explains each key are in ``settings.toml``; a test holds the two together.
"""
# Each default below is a dataclasses.field made by a function of ours, which is what RUF009 can't see.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mx.config.addresses import Address, Endpoint, Host, RedisUrl, SecureEndpoint, UrlText
from mx.config.kinds import (
    Choice,
    Duration,
    Flag,
    Integer,
    Maybe,
    Number,
    Paths,
    PathText,
    ServiceAccount,
    ServiceAccounts,
    Size,
    StringMap,
    Text,
    Words,
)
from mx.config.options import DEFAULT, Option, Origin, Scope, collect, option, section

_PORT = Integer(1, 65535)
_PORT_OR_ZERO = Integer(0, 65535)
_INTERVAL = Duration(1.0)
_TIMEOUT = Duration(0.001)
_FRACTION = Number(0.0, 1.0)
_CACHE_ENV = ("MODEL_EXPRESS_CACHE_DIRECTORY",)
_HUB_CACHE = "providers.huggingface.hub_cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What the server listens on, and how it stops."""

    host: str = option(Host(), env=("MODEL_EXPRESS_SERVER_HOST",), flag="--host")
    port: int = option(_PORT, env=("MODEL_EXPRESS_SERVER_PORT",), flag="--port, -p")
    metrics_port: int = option(
        _PORT_OR_ZERO, env=("MODEL_EXPRESS_SERVER_METRICS_PORT",), flag="--metrics-port"
    )
    http_transfers: int = option(Integer(1, 1024))
    metrics_scheme: str = option(Text(), env=("MX_METRICS_SCHEME",))
    metrics_model_names: bool = option(Flag())
    grace_s: float = option(Duration())
    admin_read_only: bool = option(Flag(), env=("MODEL_EXPRESS_ADMIN_READ_ONLY",))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """The embedded SQLite store, and which store holds the records of models."""

    path: Path = option(PathText(), env=("MODEL_EXPRESS_DATABASE_PATH",), flag="--database-path, -d")
    backend: str = option(
        Choice(("auto", "sqlite", "redis", "kubernetes"), {"k8s": "kubernetes", "crd": "kubernetes"})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSettings:
    """Which store holds the records of sources (and of models, unless database.backend differs)."""

    backend: str = option(
        Choice(
            ("sqlite", "memory", "redis", "kubernetes"),
            {"k8s": "kubernetes", "crd": "kubernetes", "server": "sqlite", "": "sqlite"},
        ),
        env=("MX_METADATA_BACKEND",),
        scopes=("server", "client"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Where Redis is. ``url`` is always complete; host and port are only another way to give it."""

    url: str = option(RedisUrl(), env=("REDIS_URL",), secret=True, scopes=("server",))
    host: str | None = option(
        Maybe(Host(), ()), env=("MX_REDIS_HOST",), fallback_env=("REDIS_HOST",), scopes=("server",)
    )
    port: int = option(_PORT, env=("MX_REDIS_PORT",), fallback_env=("REDIS_PORT",), scopes=("server",))
    timeout_s: float = option(Duration(0.1))
    ca_file: Path | None = option(Maybe(PathText(), ()))
    cert_file: Path | None = option(Maybe(PathText(), ()))
    key_file: Path | None = option(Maybe(PathText(), ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """Where the custom resources are."""

    namespace: str = option(
        Text("a namespace name", empty=False, pattern=r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
        env=("MX_METADATA_NAMESPACE",),
        fallback_env=("POD_NAMESPACE",),
    )
    kubeconfig: str = option(Text(), env=("KUBECONFIG",))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesSettings:
    """When a source that says nothing counts as stale, and when it is removed."""

    heartbeat_timeout_s: float = option(_INTERVAL, env=("MX_HEARTBEAT_TIMEOUT_SECS",))
    reaper_interval_s: float = option(_INTERVAL, env=("MX_REAPER_SCAN_INTERVAL_SECS",))
    gc_timeout_s: float = option(_INTERVAL, env=("MX_GC_TIMEOUT_SECS",))
    status_ttl_s: float = option(_INTERVAL, env=("MX_STATUS_TTL_SECS",))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionPolicySettings:
    """Which entries may go."""

    type: str = option(Choice(("lru",)))
    unused_threshold_s: float = option(_INTERVAL, key="unused_threshold")
    max_models: int | None = option(Maybe(Integer(1)))
    min_free_space_bytes: int | None = option(Maybe(Size(1)))
    high_water: float = option(_FRACTION)
    low_water: float = option(_FRACTION)
    grace_time_s: float = option(Duration(), key="grace_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionSettings:
    """When eviction looks at the cache."""

    enabled: bool = option(
        Flag(), env=("MODEL_EXPRESS_CACHE_EVICTION_ENABLED",), flag="--cache-eviction-enabled"
    )
    check_interval_s: float = option(_INTERVAL, key="check_interval")
    policy: EvictionPolicySettings = section()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Cached models: ``directory`` is the server's root, the rest speaks about the client's side."""

    directory: Path = option(PathText(), env=_CACHE_ENV, flag="--cache-directory")
    max_size_bytes: int | None = option(Maybe(Size(1)))
    local_path: Path | None = option(Maybe(PathText(), ()), env=_CACHE_ENV, flag="--cache-path")
    shared_storage: bool = option(
        Flag(), inverse_env=("MODEL_EXPRESS_NO_SHARED_STORAGE",), flag="--no-shared-storage (inverse)"
    )
    transfer_chunk_bytes: int = option(
        Size(1, 2**32 - 1),
        key="transfer_chunk_size",
        env=("MODEL_EXPRESS_TRANSFER_CHUNK_SIZE",),
        flag="--transfer-chunk-size",
    )
    receive_connections: int = option(Integer(0, 256))
    receive_timeout_s: float = option(_TIMEOUT, key="receive_timeout")
    server_endpoint: str = option(Endpoint(), env=("MODEL_EXPRESS_SERVER_ENDPOINT",))
    parallel_files: int = option(Integer(1, 256))
    stop_without_callers: bool = option(Flag())
    reconcile_interval_s: float = option(_INTERVAL, key="reconcile_interval")
    eviction: EvictionSettings = section()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """What is logged, how it looks and where it goes."""

    level: str = option(
        Choice(("trace", "debug", "info", "warn", "error"), {"warning": "warn", "critical": "error"}),
        env=("MODEL_EXPRESS_LOG_LEVEL",),
        flag="--log-level, -l",
    )
    format: str = option(
        Choice(("json", "pretty", "compact")), env=("MODEL_EXPRESS_LOG_FORMAT",), flag="--log-format"
    )
    file: Path | None = option(Maybe(PathText(), ()))
    structured: bool = option(Flag())
    quiet: bool = option(Flag(), flag="--quiet, -q")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySettings:
    """Who may call the server."""

    mode: str = option(
        Choice(("off", "enforce")), env=("MODEL_EXPRESS_SECURITY_MODE",), flag="--security-mode"
    )
    token_audiences: tuple[str, ...] = option(
        Words(), env=("MODEL_EXPRESS_SECURITY_TOKEN_AUDIENCES",), flag="--security-token-audiences"
    )
    allowed_service_accounts: tuple[ServiceAccount, ...] = option(
        ServiceAccounts(),
        env=("MODEL_EXPRESS_SECURITY_ALLOWED_SERVICE_ACCOUNTS",),
        flag="--security-allowed-service-accounts",
    )
    cache_ttl_s: float = option(
        _INTERVAL,
        key="cache_ttl_secs",
        env=("MODEL_EXPRESS_SECURITY_CACHE_TTL_SECS",),
        flag="--security-cache-ttl-secs",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How the CLI and the SDK reach a server. In files this section is called ``connection``."""

    endpoint: str = option(Endpoint(), env=("MODEL_EXPRESS_ENDPOINT",), flag="--endpoint, -e")
    timeout_s: float = option(
        _TIMEOUT, key="timeout_secs", env=("MODEL_EXPRESS_TIMEOUT",), flag="--timeout, -t"
    )
    max_retries: int = option(Integer(0, 1000), env=("MODEL_EXPRESS_MAX_RETRIES",), flag="--max-retries")
    retry_delay_s: float = option(
        Duration(), key="retry_delay_secs", env=("MODEL_EXPRESS_RETRY_DELAY",), flag="--retry-delay"
    )
    auth_token_path: Path = option(PathText(), env=("MX_AUTH_TOKEN_PATH",))
    auth_token_ttl_s: float = option(_INTERVAL, env=("MX_AUTH_TOKEN_TTL_SECONDS",))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamerSettings:
    """Loading with ModelStreamer and InstantTensor."""

    model_uri: str = option(Text(), env=("MX_MODEL_URI",))
    concurrency: int = option(Integer(1, 65535), env=("RUNAI_STREAMER_CONCURRENCY",))
    memory_limit_bytes: int | None = option(
        Maybe(Size(), ("none", "null", "-1")), env=("RUNAI_STREAMER_MEMORY_LIMIT",)
    )
    distributed: bool = option(Flag(), env=("MX_MS_DISTRIBUTED",))
    instant_tensor: bool = option(Flag(), env=("MX_INSTANT_TENSOR",))


@dataclass(frozen=True, slots=True, kw_only=True)
class GdsSettings:
    """Loading with GPUDirect Storage."""

    max_chunk_kib: int = option(Integer(1), env=("MX_GDS_MAX_CHUNK_KB",))
    threads: int = option(Integer(1, 4096), env=("MX_GDS_THREADS",))
    timeout_s: float = option(_TIMEOUT, env=("MX_GDS_TIMEOUT",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactsSettings:
    """Transfer of compiled-kernel caches between peers."""

    enabled: bool = option(Flag(), env=("MX_ARTIFACT_TRANSFER",))
    chunk_bytes: int = option(Size(1, 4 * 1024**3), env=("MX_ARTIFACT_TRANSFER_CHUNK_SIZE",))
    bundle_root: Path | None = option(Maybe(PathText(), ()), env=("MX_ARTIFACT_BUNDLE_ROOT",))
    compile_config_digest: str = option(Text(), env=("MX_ARTIFACT_COMPILE_CONFIG_DIGEST",))
    ready_url: str = option(UrlText(), env=("MX_ARTIFACT_READY_URL",))
    ready_timeout_s: float = option(_INTERVAL, env=("MX_ARTIFACT_READY_TIMEOUT_SECS",))
    timeout_s: float = option(_TIMEOUT, env=("MX_TRANSFER_TIMEOUT",))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMetricsSettings:
    """Prometheus metrics of a worker."""

    enabled: bool = option(Flag(), env=("MX_METRICS_ENABLED",))
    port: int | None = option(Maybe(_PORT_OR_ZERO), env=("MX_METRICS_PORT",))
    pushgateway: str = option(UrlText(), env=("MX_METRICS_PUSHGATEWAY",))
    scheme: str = option(Text(), env=("MX_METRICS_SCHEME",))
    bind_retry_s: float = option(Duration(), env=("MX_METRICS_BIND_RETRY_SECS",))
    source_id_label: bool = option(Flag(), env=("MX_METRICS_SOURCE_ID_LABEL",))
    multiproc_dir: Path | None = option(Maybe(PathText(), ()), env=("PROMETHEUS_MULTIPROC_DIR",))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How an inference worker publishes, finds and is found."""

    server_address: str = option(Address(), env=("MODEL_EXPRESS_URL", "MX_SERVER_ADDRESS"))
    register_loaders: bool = option(Flag(), env=("MX_REGISTER_LOADERS",))
    metadata_backend: str = option(
        Choice(
            ("central", "k8s-service"),
            dict.fromkeys(("", "server", "redis", "kubernetes", "k8s", "crd"), "central")
            | {"service": "k8s-service", "sqlite": "central", "memory": "central"},
        ),
        env=("MX_METADATA_BACKEND",),
        scopes=("worker",),
    )
    p2p_metadata: bool = option(Flag(), env=("MX_P2P_METADATA",))
    metadata_port: int = option(_PORT_OR_ZERO, env=("MX_METADATA_PORT",))
    grpc_port: int = option(_PORT_OR_ZERO, env=("MX_WORKER_GRPC_PORT",))
    host: str | None = option(Maybe(Host(), ()), env=("MX_WORKER_HOST",))
    heartbeat_interval_s: float = option(_INTERVAL, env=("MX_HEARTBEAT_INTERVAL_SECS",))
    publish_timeout_s: float = option(_INTERVAL, env=("MX_PUBLISH_TIMEOUT_SECS",))
    model_revision: str = option(Text(), env=("MX_MODEL_REVISION",))
    source_selector: str = option(
        Choice(("random", "rendezvous_hash", "load_aware", "topology_aware")), env=("MX_P2P_SOURCE_SELECTOR",)
    )
    load_weight: float = option(Number(), env=("MX_P2P_LOAD_WEIGHT",))
    runtime_metrics_url: str = option(UrlText(), env=("MX_P2P_RUNTIME_METRICS_URL",))
    topology_levels: tuple[str, ...] = option(Words(lower=True), env=("MX_P2P_TOPOLOGY_LEVELS",))
    topology: Mapping[str, str] = option(StringMap(), env=("MX_P2P_TOPOLOGY",))
    topology_mount_path: Path = option(PathText(), env=("DYN_TOPOLOGY_MOUNT_PATH",))
    topology_load_weight: float = option(
        Number(), env=("MX_P2P_TOPOLOGY_LOAD_WEIGHT",), fallback_env=("MX_P2P_LOAD_WEIGHT",)
    )
    load_strategy_chain: str = option(Choice(("INFERENCE", "RL")), env=("MX_LOAD_STRATEGY_CHAIN",))
    skip_feature_check: bool = option(Flag(), env=("MX_SKIP_FEATURE_CHECK",))
    contiguous_reg: bool = option(Flag(), env=("MX_CONTIGUOUS_REG",))
    pool_reg: bool = option(Flag(), env=("MX_POOL_REG",))
    rdma_nic_pin: str = option(Text(), env=("MX_RDMA_NIC_PIN",))
    rdma_nic_pin_min_rate_gbps: float | None = option(
        Maybe(Number(), ("fastest", "none", "null")), env=("MX_RDMA_NIC_PIN_MIN_RATE_GBPS",)
    )
    ucx_disable_mem_events: bool = option(Flag(), env=("MX_UCX_DISABLE_MEM_EVENTS",))
    k8s_service_pattern: str = option(Text(empty=False), env=("MX_K8S_SERVICE_PATTERN",))
    k8s_source_retries: int = option(Integer(0, 1000), env=("MX_K8S_SOURCE_RETRIES",))
    k8s_source_backoff_s: float = option(Duration(), env=("MX_K8S_SOURCE_BACKOFF_SECONDS",))
    disable_patches: bool = option(Flag(), env=("MX_DISABLE_PATCHES",))
    streamer: StreamerSettings = section()
    gds: GdsSettings = section()
    artifacts: ArtifactsSettings = section()
    metrics: WorkerMetricsSettings = section()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How tensors move."""

    segment_bytes: int = option(Size(65536))
    verify: bool = option(Flag())
    timeout_s: float = option(_TIMEOUT, env=("MX_TRANSFER_TIMEOUT",))
    stall_timeout_s: float = option(Duration(0.1))
    wait_s: float = option(Duration())
    max_sources: int = option(Integer(1, 1024))
    window_max: int = option(Integer(1, 1024))
    digest_threads: int = option(Integer(0, 1024))
    region_slice_bytes: int = option(Size(1024**2))
    nixl_backend: str = option(Choice(("UCX", "LIBFABRIC")), env=("MX_NIXL_BACKEND",))
    listen: bool = option(Flag())
    progress_delay_us: int = option(Integer(0, 10_000_000))
    nixl_ucx_tls: str = option(Text(), env=("NIXL_UCX_TLS",), env_only=True)
    ucx_tls: str = option(Text(), env=("UCX_TLS",), env_only=True)
    ucx_net_devices: str = option(Text(), env=("UCX_NET_DEVICES",), env_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceSettings:
    """The Hugging Face hub. Paths that are None here are filled in when settings are loaded."""

    endpoint: str = option(Endpoint(), env=("HF_ENDPOINT",))
    offline: bool = option(Flag(), env=("HF_HUB_OFFLINE",))
    token: str | None = option(
        Maybe(Text(), ()),
        env=("HF_TOKEN",),
        legacy_env=("HUGGING_FACE_HUB_TOKEN",),
        secret=True,
        env_only=True,
    )
    home: Path | None = option(Maybe(PathText(), ()), env=("HF_HOME",))
    hub_cache: Path | None = option(
        Maybe(PathText(), ()), env=("HF_HUB_CACHE",), legacy_env=("HUGGINGFACE_HUB_CACHE",)
    )
    token_path: Path | None = option(Maybe(PathText(), ()), env=("HF_TOKEN_PATH",))


@dataclass(frozen=True, slots=True, kw_only=True)
class NgcSettings:
    """The NGC catalogue."""

    api_key: str | None = option(
        Maybe(Text(), ()), env=("NGC_API_KEY",), fallback_env=("NGC_CLI_API_KEY",), secret=True, env_only=True
    )
    # The second names are those of NGC's own SDK.
    api_endpoint: str = option(SecureEndpoint(), env=("NGC_API_ENDPOINT",), fallback_env=("NGC_CLI_API_URL",))
    auth_endpoint: str = option(
        SecureEndpoint(), env=("NGC_AUTH_ENDPOINT",), fallback_env=("NGC_CLI_AUTH_URL",)
    )
    cli_home: Path | None = option(Maybe(PathText(), ()), env=("NGC_CLI_HOME",))


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """S3 and compatible stores. Credentials are read by the S3 client, in its standard order."""

    region: str = option(Text(empty=False), env=("AWS_REGION",), fallback_env=("AWS_DEFAULT_REGION",))
    endpoint: str = option(UrlText(), env=("AWS_ENDPOINT_URL",), fallback_env=("AWS_ENDPOINT", "S3_ENDPOINT"))
    allow_http: bool = option(Flag(), env=("AWS_ALLOW_HTTP",))
    timeout_s: float = option(_INTERVAL, env=("MODEL_EXPRESS_S3_TIMEOUT_SECS",))


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsSettings:
    """Google Cloud Storage."""

    endpoint: str = option(Endpoint(), env=("STORAGE_EMULATOR_HOST",))
    credentials_path: Path | None = option(Maybe(PathText(), ()), env=("GOOGLE_APPLICATION_CREDENTIALS",))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Directories of this machine as a provider."""

    roots: tuple[Path, ...] = option(Paths(), env=("MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidersSettings:
    """Where original files come from."""

    huggingface: HuggingFaceSettings = section()
    ngc: NgcSettings = section()
    s3: S3Settings = section()
    gcs: GcsSettings = section()
    local: LocalSettings = section()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """Who this process is on Kubernetes; empty elsewhere."""

    name: str = option(Text(), env=("POD_NAME",), env_only=True)
    uid: str = option(Text(), env=("POD_UID",), env_only=True)
    namespace: str = option(Text(), env=("POD_NAMESPACE",), env_only=True)
    hostname: str = option(Text(), env=("HOSTNAME",), env_only=True)
    leader_address: str = option(Text(), env=("LWS_LEADER_ADDRESS",), env_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything mx was told, checked and complete.

    ``origins`` has an entry per setting, under its key in files (``connection.timeout_secs``) and
    under its path here (``client.timeout_s``). ``notices`` are lines for the reader that are no
    errors: names without effect, a second name that lost, the default store. Log them once.
    """

    server: ServerSettings = section()
    database: DatabaseSettings = section()
    metadata: MetadataSettings = section()
    redis: RedisSettings = section()
    kubernetes: KubernetesSettings = section()
    sources: SourcesSettings = section()
    cache: CacheSettings = section()
    logging: LoggingSettings = section()
    security: SecuritySettings = section()
    client: ClientSettings = section("connection")
    worker: WorkerSettings = section()
    transfer: TransferSettings = section()
    providers: ProvidersSettings = section()
    pod: PodSettings = section()
    scope: Scope = "server"
    config_file: Path | None = None
    home: Path = Path()
    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False)
    notices: tuple[str, ...] = ()

    def explicit(self, key: str) -> bool:
        """Whether somebody set this key, by its key in files or its path here."""
        return self.origins.get(key, DEFAULT).explicit

    def client_cache_root(self, provider: str) -> Path:
        """Root of the cache on the client's side: one directory for all providers if one is set.

        ``provider`` is huggingface, ngc, gcs, s3 or local. For ngc without a directory set, the answer
        is the folder that tools of NGC use, and the artifacts lie in it directly. A directory that only
        a file names gives way to Hugging Face's own variables: files are below the environment.
        """
        if (root := self._one_cache_root()) is not None:
            return root / "ngc" if provider == "ngc" else root
        if provider == "ngc":
            return self.home / ".cache" / "ngc"
        assert self.providers.huggingface.hub_cache is not None  # load_settings fills it
        return self.providers.huggingface.hub_cache

    def _one_cache_root(self) -> Path | None:
        mine, hub = (self.origins.get(key, DEFAULT) for key in ("cache.local_path", _HUB_CACHE))
        return None if mine.rank < hub.rank else self.cache.local_path

    def ngc_config_path(self) -> Path:
        """The file that NGC's own tools keep their key in."""
        return (self.providers.ngc.cli_home or self.home) / ".ngc" / "config"


TABLE: tuple[Option, ...] = tuple(collect(Settings))
BY_KEY: dict[str, Option] = {one.key: one for one in TABLE} | {one.path: one for one in TABLE}
