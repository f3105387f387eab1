"""Loading: wrong values, rules between settings, names that lose, secrets, what follows from what."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mx.config import Settings, load_settings, setting_rows, validate_report
from mx.config.options import SCOPES, Scope
from mx.config.tree import TABLE
from mx.errors import SettingsError


def load(
    tmp_path: Path, *, scope: Scope = "server", flags: dict[str, Any] | None = None, **environ: str
) -> Settings:
    return load_settings(flags=flags, environ={"HOME": str(tmp_path), **environ}, cwd=tmp_path, scope=scope)


def problems(tmp_path: Path, **how: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **how)
    return caught.value.problems


BAD: list[tuple[str, str, str]] = [
    ("MODEL_EXPRESS_SERVER_PORT", "0", "too small; allowed: a whole number from 1 to 65535"),
    ("MODEL_EXPRESS_SERVER_PORT", "65536", "too large"),
    ("MODEL_EXPRESS_SERVER_PORT", "80.0", "not a whole number"),
    ("MODEL_EXPRESS_SERVER_PORT", "８００１", "not a whole number"),
    ("MODEL_EXPRESS_SERVER_PORT", "9" * 5000, "not a whole number"),
    ("MODEL_EXPRESS_SERVER_HOST", "a:80", "a port has its own setting"),
    ("MODEL_EXPRESS_SERVER_HOST", "a b", "no host name"),
    ("MODEL_EXPRESS_LOG_LEVEL", "loud", "allowed: trace, debug, info, warn, error"),
    ("MODEL_EXPRESS_LOG_FORMAT", "xml", "allowed: json, pretty, compact"),
    ("MODEL_EXPRESS_CACHE_EVICTION_ENABLED", "maybe", "neither true nor false"),
    ("MODEL_EXPRESS_CACHE__EVICTION__CHECK_INTERVAL", "0s", "too short; allowed: a duration such as"),
    ("MODEL_EXPRESS_CACHE__EVICTION__POLICY__UNUSED_THRESHOLD", "1y", "not a duration"),
    ("MODEL_EXPRESS_CACHE__MAX_SIZE_BYTES", "10G", "write 10GiB or 10GB"),
    ("MODEL_EXPRESS_CACHE__MAX_SIZE_BYTES", "0", "too small"),
    ("MX_HEARTBEAT_TIMEOUT_SECS", "0", "too short"),
    ("MX_GC_TIMEOUT_SECS", "-5", "not a duration"),
    ("MX_TRANSFER_TIMEOUT", "inf", "not a duration"),
    ("MX_TRANSFER_TIMEOUT", "0", "too short"),
    ("MX_METADATA_BACKEND", "k8s-service", "allowed: sqlite, memory, redis, kubernetes"),
    ("MX_METADATA_BACKEND", "mysql", "(also k8s, crd, server)"),
    ("MX_METADATA_NAMESPACE", "Not_A_Name", "wrong form; allowed: a namespace name"),
    ("MODEL_EXPRESS_TIMEOUT", "0", "too short"),
    ("MODEL_EXPRESS_ENDPOINT", "ftp://h", "has the scheme 'ftp'"),
    ("MODEL_EXPRESS_ENDPOINT", "http://h:99999", "port is wrong"),
    ("MODEL_EXPRESS_ENDPOINT", "http://", "no host"),
    ("MODEL_EXPRESS_ENDPOINT", "h:", "no port after the colon"),
    ("MODEL_EXPRESS_ENDPOINT", "http://u:geheim@h", "credentials don't belong"),
    ("MODEL_EXPRESS_URL", "h/path", "it has a path"),
    ("MODEL_EXPRESS_TRANSFER_CHUNK_SIZE", "4294967296", "too large"),
    ("MODEL_EXPRESS_TRANSFER_CHUNK_SIZE", "0", "too small"),
    ("MX_P2P_LOAD_WEIGHT", "-1", "too small; allowed: a number, 0 or more"),
    ("MX_P2P_LOAD_WEIGHT", "nan", "not finite"),
    ("MX_P2P_TOPOLOGY", "zone=a", "not JSON"),
    ("MX_P2P_TOPOLOGY", "[1]", "not a mapping"),
    ("MX_P2P_TOPOLOGY", '{"zone": 1}', "has a number at 'zone' where text is expected"),
    ("MODEL_EXPRESS_SECURITY_ALLOWED_SERVICE_ACCOUNTS", "nosa", "names no service account"),
    ("REDIS_URL", "http://:geheim@h", "has a scheme that Redis does not know"),
    ("REDIS_URL", "redis://:geheim@h:port", "host or port that is wrong"),
    ("MODEL_EXPRESS_DATABASE_PATH", "~other/x", "another user's home"),
    ("MODEL_EXPRESS_SERVER__PROT", "1", "server.prot: unknown key; nearest known key: server.port"),
]


@pytest.mark.parametrize(("name", "raw", "words"), BAD)
def test_a_wrong_value_is_refused_with_name_reason_and_what_is_allowed(
    name: str, raw: str, words: str, tmp_path: Path
) -> None:
    for problem in problems(tmp_path, **{name: raw}):
        if words in problem:
            assert f"env:{name}" in problem
            assert "geheim" not in problem
            assert len(problem) < 900
            return
    pytest.fail(f"no problem says {words!r}")


def test_what_a_flag_got_wrong_names_the_flag(tmp_path: Path) -> None:
    assert problems(tmp_path, flags={"server.port": "x"}) == (
        "server.port: 'x' is not a whole number; allowed: a whole number from 1 to 65535 [--port]",
    )
    (problem,) = problems(tmp_path, flags={"server.prot": 1})
    assert "nearest known key: server.port" in problem
    assert load(tmp_path, flags={"server.port": None}).server.port == 8001


def test_rules_between_settings(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MX_STATUS_TTL_SECS="90")
    assert "sources.status_ttl_s (90 s) must be longer than sources.heartbeat_timeout_s (90 s)" in problem
    assert "env:MX_STATUS_TTL_SECS" in problem
    (problem,) = problems(tmp_path, MODEL_EXPRESS_CACHE__EVICTION__POLICY__HIGH_WATER="0.8")
    assert "policy.low_water (0.9) must not be above cache.eviction.policy.high_water (0.8)" in problem
    (problem,) = problems(tmp_path, MODEL_EXPRESS_SERVER_METRICS_PORT="8001")
    assert "server.metrics_port and server.port are both 8001" in problem
    found = problems(tmp_path, MODEL_EXPRESS_SECURITY_MODE="enforce")
    assert [one.split(" ")[0] for one in found] == [
        "security.token_audiences",
        "security.allowed_service_accounts",
    ]
    # They are rules of the server: a worker with the same environment starts.
    for scope in ("client", "worker"):
        load(tmp_path, scope=scope, MX_STATUS_TTL_SECS="90", MODEL_EXPRESS_SECURITY_MODE="enforce")


def test_url_wins_over_its_alias_and_says_so_only_when_they_differ(tmp_path: Path) -> None:
    both = load(tmp_path, scope="worker", MODEL_EXPRESS_URL="a:1", MX_SERVER_ADDRESS="b:1")
    assert both.worker.server_address == "a:1"
    assert str(both.origins["worker.server_address"]) == "env:MODEL_EXPRESS_URL"
    assert both.notices == (
        "MX_SERVER_ADDRESS is ignored because MODEL_EXPRESS_URL is set as well, to another value",
    )
    assert load(tmp_path, scope="worker", MODEL_EXPRESS_URL="a:1", MX_SERVER_ADDRESS="a:1").notices == ()
    assert load(tmp_path, scope="worker", MX_SERVER_ADDRESS="b:1").notices == ()


def test_deprecated_names_work_with_one_line(tmp_path: Path) -> None:
    settings = load(
        tmp_path, scope="client", HUGGING_FACE_HUB_TOKEN="secret-token", HUGGINGFACE_HUB_CACHE="/c"
    )
    assert settings.providers.huggingface.token == "secret-token"
    assert settings.client_cache_root("huggingface") == Path("/c")
    assert sorted(settings.notices) == [
        "HUGGINGFACE_HUB_CACHE is deprecated; set HF_HUB_CACHE instead",
        "HUGGING_FACE_HUB_TOKEN is deprecated; set HF_TOKEN instead",
    ]


def test_names_without_effect_and_slips_are_reported_once(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        scope="worker",
        MX_VMM_ARENA="1",
        MX_TRAINER_RANK="0",
        RUST_LOG="debug",
        MX_P2P_METADTA="1",
        MODEL_EXPRESS_SERVER_PROT="1",
        MODEL_EXPRESS_SOMETHING_ELSE="1",
        MX_OF_ANOTHER_PROGRAM="1",
        MX_REGISTRY="1",
        MX_SKIP_EXT="",
    )
    assert sorted(settings.notices) == [
        "MODEL_EXPRESS_SERVER_PROT is set, but mx has no such setting; "
        "did you mean MODEL_EXPRESS_SERVER_PORT?",
        "MODEL_EXPRESS_SOMETHING_ELSE is set, but mx has no such setting",
        "MX_P2P_METADTA is set, but mx has no such setting; did you mean MX_P2P_METADATA?",
        "MX_TRAINER_RANK is set and has no effect in mx",
        "MX_VMM_ARENA is set and has no effect in mx",
        "RUST_LOG is set and has no effect in mx",
    ]


def test_what_kubernetes_sets_for_a_service_is_no_setting(tmp_path: Path) -> None:
    links = {
        "REDIS_PORT": "tcp://10.0.0.1:6379",
        "REDIS_PORT_6379_TCP": "tcp://10.0.0.1:6379",
        "REDIS_SERVICE_HOST": "10.0.0.1",
        "MODEL_EXPRESS_SERVER_PORT": "tcp://10.0.0.2:8001",
        "MODEL_EXPRESS_SERVER_SERVICE_HOST": "10.0.0.2",
        "MODEL_EXPRESS_SERVER_SERVICE_PORT": "8001",
        "MODEL_EXPRESS_SERVER_PORT_8001_TCP_ADDR": "10.0.0.2",
        "MODEL_EXPRESS_PORT": "tcp://10.0.0.2:8001",
        "MX_PORT": "tcp://10.0.0.2:8001",
    }
    settings = load(tmp_path, MX_METADATA_BACKEND="memory", **links)
    assert (settings.server.port, settings.redis.url) == (8001, "redis://localhost:6379")
    assert settings.notices == tuple(
        f"{name} is ignored: Kubernetes set it for a Service; enableServiceLinks: false removes it"
        for name in ("MODEL_EXPRESS_SERVER_PORT", "REDIS_PORT")
    )
    # The name of equal meaning still counts.
    assert load(tmp_path, MX_REDIS_PORT="7", **links).redis.url == "redis://localhost:7"


def test_an_unknown_selector_is_random_with_a_warning(tmp_path: Path) -> None:
    settings = load(tmp_path, scope="worker", MX_P2P_SOURCE_SELECTOR="newest")
    assert settings.worker.source_selector == "random"
    assert "'newest' is unknown, random is used" in settings.notices[0]


def test_the_default_store_is_said(tmp_path: Path) -> None:
    assert load(tmp_path).notices == (
        f"metadata.backend is not set: sources and models are kept in SQLite at {tmp_path}/models.db",
    )
    redis = load(tmp_path, MX_METADATA_BACKEND="redis")
    assert redis.notices == ("redis.url is not set: redis://localhost:6379 is used",)
    assert load(tmp_path, MX_METADATA_BACKEND="redis", REDIS_URL="redis://a").notices == ()


@pytest.mark.parametrize(
    ("file", "environ", "url"),
    [
        ("", {}, "redis://localhost:6379"),
        ("", {"MX_REDIS_HOST": "a", "REDIS_HOST": "b", "REDIS_PORT": "7"}, "redis://a:7"),
        ("", {"REDIS_URL": "redis://u", "MX_REDIS_HOST": "a"}, "redis://u"),
        ("", {"MX_REDIS_HOST": "::1"}, "redis://[::1]:6379"),
        ("redis: {url: 'redis://f'}", {"REDIS_HOST": "a"}, "redis://a:6379"),
        ("redis: {url: 'redis://f'}", {"REDIS_PORT": "7"}, "redis://f"),
        ("redis: {url: 'redis://f', host: x}", {}, "redis://f"),
        ("redis: {host: x, port: 5}", {}, "redis://x:5"),
        ("redis: {host: x, port: 5}", {"REDIS_URL": "redis://u"}, "redis://u"),
    ],
)
def test_redis_from_url_or_parts(file: str, environ: dict[str, str], url: str, tmp_path: Path) -> None:
    (tmp_path / "model-express.yaml").write_text(file)
    assert load(tmp_path, **environ).redis.url == url


def test_topology_comes_from_files_unless_it_is_set(tmp_path: Path) -> None:
    mount = tmp_path / "topology"
    mount.mkdir()
    (mount / "zone").write_text("a\n")
    (mount / "rack").write_text("  r7 ")
    (mount / "host").write_text("")
    (mount / "block").write_bytes(b"\xff")
    mounted = load(tmp_path, scope="worker", DYN_TOPOLOGY_MOUNT_PATH=str(mount))
    assert mounted.worker.topology == {"zone": "a", "rack": "r7"}
    assert str(mounted.origins["worker.topology"]) == f"file:{mount}"
    assert any("topology level block can't be read" in notice for notice in mounted.notices)
    named = load(tmp_path, scope="worker", DYN_TOPOLOGY_MOUNT_PATH=str(mount), MX_P2P_TOPOLOGY='{"zone":"b"}')
    assert named.worker.topology == {"zone": "b"}
    assert load(tmp_path, scope="worker", DYN_TOPOLOGY_MOUNT_PATH="/none").worker.topology == {}


def test_cache_roots_of_the_client(tmp_path: Path) -> None:
    unset = load(tmp_path, scope="client")
    assert unset.client_cache_root("huggingface") == tmp_path / ".cache/huggingface/hub"
    assert unset.client_cache_root("ngc") == tmp_path / ".cache/ngc"
    hub = load(tmp_path, scope="client", HF_HUB_CACHE="/hub")
    assert hub.client_cache_root("huggingface") == Path("/hub")
    variable = load(tmp_path, scope="client", HF_HUB_CACHE="/hub", MODEL_EXPRESS_CACHE_DIRECTORY="/mx")
    assert variable.client_cache_root("huggingface") == Path("/mx")
    assert variable.client_cache_root("ngc") == Path("/mx/ngc")
    flag = load(
        tmp_path, scope="client", flags={"cache.local_path": "m"}, MODEL_EXPRESS_CACHE_DIRECTORY="/mx"
    )
    assert flag.client_cache_root("s3") == tmp_path / "m"
    assert load(tmp_path, NGC_CLI_HOME="/n").ngc_config_path() == Path("/n/.ngc/config")
    assert load(tmp_path).ngc_config_path() == tmp_path / ".ngc/config"


@pytest.mark.parametrize(
    ("raw", "endpoint", "address"),
    [
        ("h", "http://h:8001", "h:8001"),
        ("h:9", "http://h:9", "h:9"),
        ("http://h:9/", "http://h:9", "h:9"),
        ("[::1]:9", "http://[::1]:9", "[::1]:9"),
        ("[::1]", "http://[::1]:8001", "[::1]:8001"),
        ("http://[::1]", "http://[::1]", "[::1]:8001"),
        ("https://h", "https://h", "https://h"),
        ("http://h", "http://h", "h:8001"),
    ],
)
def test_addresses(raw: str, endpoint: str, address: str, tmp_path: Path) -> None:
    assert load(tmp_path, scope="client", MODEL_EXPRESS_ENDPOINT=raw).client.endpoint == endpoint
    assert load(tmp_path, scope="worker", MODEL_EXPRESS_URL=raw).worker.server_address == address


def test_levels_by_scope(tmp_path: Path) -> None:
    assert load(tmp_path, scope="client").logging.level == "warn"
    assert load(tmp_path, scope="client", MODEL_EXPRESS_LOG_LEVEL="info").logging.level == "info"
    worker = load(tmp_path, scope="worker")
    assert not worker.explicit("logging.level")


SECRETS = {
    "HF_TOKEN": "geheim-1",
    "NGC_API_KEY": "geheim-2",
    "REDIS_URL": "redis://user:geheim-3@host:1/0",
    "MX_METRICS_PUSHGATEWAY": "http://me:geheim-4@push",
}


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    settings = load(tmp_path, **SECRETS)
    assert settings.redis.url.endswith("geheim-3@host:1/0")
    for text in (
        repr(settings),
        validate_report(settings),
        repr(setting_rows(settings)),
        str(settings.origins),
    ):
        assert "geheim" not in text
    rows = {row.key: row for row in setting_rows(settings)}
    assert rows["redis.url"].text == "redis://user:***@host:1/0"
    assert rows["providers.huggingface.token"].value == "***"
    assert str(rows["providers.huggingface.token"].origin) == "env:HF_TOKEN"
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, REDIS_URL="redis://:ge@he/im@host")
    assert "percent-encoded" in str(caught.value)
    for part in ("ge@", "he/im", "im@host"):
        assert part not in str(caught.value)


def test_rows_hold_every_setting_as_plain_values(tmp_path: Path) -> None:
    rows = setting_rows(load(tmp_path))
    assert [row.key for row in rows] == [one.key for one in TABLE]
    by_key = {row.key: row for row in rows}
    assert (by_key["cache.eviction.check_interval"].value, by_key["cache.eviction.check_interval"].text) == (
        3600.0,
        "1h",
    )
    assert by_key["database.path"].value == str(tmp_path / "models.db")


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.server.port = 1  # type: ignore[misc]


_NAMES = sorted({name for one in TABLE for name in (*one.named_env, *one.nested_env)} - {"HOME"})


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    environ=st.dictionaries(
        st.sampled_from(_NAMES),
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40),
        max_size=6,
    ),
    scope=st.sampled_from(SCOPES),
)
def test_no_environment_breaks_it(environ: dict[str, str], scope: Scope, tmp_path: Path) -> None:
    report, problems = "", ()
    try:
        report = validate_report(load(tmp_path, scope=scope, **environ))
    except SettingsError as error:
        problems = error.problems
    assert report or (problems and all(problems))


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=80) | st.text(max_size=80), name=st.sampled_from(["s.yaml", "s.toml"]))
def test_no_file_breaks_it(content: bytes | str, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    report, problems = "", ()
    try:
        settings = load_settings(config_file=file, environ={"HOME": str(tmp_path)}, cwd=tmp_path)
        report = validate_report(settings)
    except SettingsError as error:
        problems = error.problems
    assert report or (problems and all(problems))


def test_a_file_names_the_cache_below_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".model-express").mkdir()
    (tmp_path / ".model-express/config.yaml").write_text("local_path: /mine\n")
    assert load(tmp_path, scope="client").client_cache_root("huggingface") == Path("/mine")
    assert load(tmp_path, scope="client").client_cache_root("ngc") == Path("/mine/ngc")
    hub = load(tmp_path, scope="client", HF_HUB_CACHE="/hub")
    assert (hub.client_cache_root("huggingface"), hub.client_cache_root("s3")) == (Path("/hub"), Path("/hub"))
    assert hub.client_cache_root("ngc") == tmp_path / ".cache/ngc"
    flag = load(tmp_path, scope="client", flags={"cache.local_path": "/flag"}, HF_HUB_CACHE="/hub")
    assert flag.client_cache_root("huggingface") == Path("/flag")


def test_the_server_of_model_init_is_asked_where_no_other_is_named(tmp_path: Path) -> None:
    (tmp_path / ".model-express").mkdir()
    (tmp_path / ".model-express/config.yaml").write_text("server_endpoint: far:9\n")
    found = load(tmp_path, scope="client")
    assert found.client.endpoint == "http://far:9"
    assert "config.yaml" in str(found.origins["client.endpoint"])
    assert load(tmp_path, scope="client", MODEL_EXPRESS_ENDPOINT="near").client.endpoint == "http://near:8001"
    named = load(tmp_path, scope="client", MODEL_EXPRESS_SERVER_ENDPOINT="near")
    assert named.client.endpoint == "http://near:8001"


def test_another_programs_redis_url_does_not_stop_a_worker(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://h?socket_timeout=5"}
    for scope in ("worker", "client"):
        settings = load_settings(environ=environ, cwd=tmp_path, scope=scope)
        assert settings.redis.url == "redis://localhost:6379"
    with pytest.raises(SettingsError, match="socket_timeout"):
        load_settings(environ=environ, cwd=tmp_path, scope="server")
