"""Files of settings: what passes, and that a wrong file is one clear error and never the defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mx.config import Settings, load_settings
from mx.config.options import Scope
from mx.errors import SettingsError


def load(
    tmp_path: Path, content: str | bytes, *, name: str = "s.yaml", scope: Scope = "server", **environ: str
) -> Settings:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_settings(
        config_file=file, environ={"HOME": str(tmp_path), **environ}, cwd=tmp_path, scope=scope
    )


def problems(tmp_path: Path, content: str | bytes, **how: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, content, **how)  # type: ignore[arg-type]
    return caught.value.problems


GUIDE = """
server:
  host: 0.0.0.0
  port: 8005
database:
  path: ./models.db
cache:
  directory: ./cache
  max_size_bytes: null
  eviction:
    enabled: true
    check_interval: "2h"
    policy:
      type: lru
      unused_threshold: "3d"
      max_models: 10
      min_free_space_bytes: 500GiB
logging:
  level: debug
  format: json
  file: null
  structured: false
security:
  mode: off
  allowed_service_accounts:
    - namespace: a
      service_account: b
"""


def test_the_guides_file(tmp_path: Path) -> None:
    settings = load(tmp_path, GUIDE)
    assert settings.server.port == 8005
    assert settings.cache.directory == tmp_path / "cache"
    assert settings.cache.max_size_bytes is None
    assert settings.cache.eviction.check_interval_s == 7200
    assert settings.cache.eviction.policy.unused_threshold_s == 3 * 86400
    assert settings.cache.eviction.policy.max_models == 10
    assert settings.cache.eviction.policy.min_free_space_bytes == 500 * 1024**3
    assert settings.logging.level == "debug"
    assert settings.security.mode == "off"
    assert str(settings.security.allowed_service_accounts[0]) == "a:b"
    assert str(settings.origins["server.port"]) == f"file:{tmp_path}/s.yaml"
    assert str(settings.origins["server.metrics_port"]) == "default"


def test_what_the_older_generator_writes(tmp_path: Path) -> None:
    text = """
server: {host: 0.0.0.0, port: 8001}
cache:
  eviction:
    check_interval: 3600
    policy: {type: Lru, unused_threshold: 604800, max_models: null}
logging: {level: Info, format: Pretty, file: null, structured: false}
"""
    settings = load(tmp_path, text)
    assert settings.cache.eviction.policy.type == "lru"
    assert settings.cache.eviction.policy.unused_threshold_s == 604_800
    assert (settings.logging.level, settings.logging.format) == ("info", "pretty")


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    toml = """
[server]
port = 8005
[cache.eviction.policy]
unused_threshold = "3d"
max_models = 10
[worker]
topology = { zone = "a" }
topology_levels = ["zone"]
"""
    yaml = """
server: {port: 8005}
cache: {eviction: {policy: {unused_threshold: 3d, max_models: 10}}}
worker: {topology: {zone: a}, topology_levels: [zone]}
"""
    from_toml, from_yaml = load(tmp_path, toml, name="s.toml"), load(tmp_path, yaml)
    for section in ("server", "cache", "worker"):
        assert getattr(from_toml, section) == getattr(from_yaml, section)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "server:\ncache:\n", "\ufeffserver: {port: 8001}"]
)
def test_a_file_may_say_little(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).server.port == 8001


def test_yaml_words_are_not_taken_for_something_else(tmp_path: Path) -> None:
    settings = load(tmp_path, "worker: {model_revision: 1e3x, host: no}\nlogging: {structured: YES}\n")
    assert (settings.worker.model_revision, settings.worker.host) == ("1e3x", "no")
    assert settings.logging.format == "json"
    # A revision of digits only would lose its zeros as a number.
    (problem,) = problems(tmp_path, "worker: {model_revision: 0042}")
    assert "put quotes around it" in problem


def test_the_section_client_is_connection(tmp_path: Path) -> None:
    assert load(tmp_path, "client: {timeout_s: 5s}").client.timeout_s == 5
    (problem,) = problems(tmp_path, "client: {timeout_s: 5s}\nconnection: {timeout_secs: 6}")
    assert "connection.timeout_secs: set twice, as client.timeout_s and as connection.timeout_secs" in problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("server: [", ("not valid YAML", "line 1")),
        ("server: {port: 1}\n\tx: 1", ("not valid YAML", "line 2")),
        ("- a\n- b", ("holds a list",)),
        ("just text", ("holds text",)),
        ("42", ("holds a number",)),
        (b"\xff\xfe\x00", ("not UTF-8",)),
        (b"server:\n  host: \xe9", ("not UTF-8", "line 2")),
        ("server: {port: 1}\nserver: {port: 2}", ("line 2: server is written twice, first in line 1",)),
        ("server:\n  port: 1\n  port: 2", ("line 3: server.port is written twice, first in line 2",)),
        ("a: 1\n---\nb: 2", ("not valid YAML", "single document")),
        ("server: !!python/object:os.system {}", ("not valid YAML", "could not determine a constructor")),
        ("server: !Lru {}", ("not valid YAML",)),
        ("? [a, b]\n: 1", ("a key must be a word",)),
        ("a: &a [*a]", ("nests too deep",)),
        ("[" * 5000, ("nests too deep",)),
        ("server: *nowhere", ("not valid YAML", "undefined alias")),
        ("x" * (4 * 1024 * 1024 + 1), ("larger than 4 MiB",)),
        ('server:\n  host: "a\x00b"', ("not valid YAML",)),
    ],
)
def test_a_bad_yaml_file_is_one_error(tmp_path: Path, content: str | bytes, words: tuple[str, ...]) -> None:
    (problem,) = problems(tmp_path, content)
    assert problem.startswith(f"settings file {tmp_path}/s.yaml")
    for word in words:
        assert word in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[server", ("not valid TOML", "Expected")),
        ("[server]\nport = 1\nport = 2", ("not valid TOML", "overwrite")),
        ("port: 1", ("not valid TOML",)),
        ("x = " + "[" * 5000, ("not valid TOML",)),
    ],
)
def test_a_bad_toml_file_is_one_error(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    (problem,) = problems(tmp_path, content, name="s.toml")
    for word in words:
        assert word in problem


def test_billions_of_laughs_do_not_grow(tmp_path: Path) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    found = problems(tmp_path, f"a0: &a0 [x]\n{levels}")
    assert found == (f"settings file {tmp_path}/s.yaml is not valid YAML: it has too many keys or aliases",)


def test_a_file_that_is_not_there_or_not_readable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(config_file=tmp_path / "none.yaml", environ={}, cwd=tmp_path)
    with pytest.raises(SettingsError, match="can't be read: Is a directory"):
        load_settings(config_file=tmp_path, environ={}, cwd=tmp_path)
    (tmp_path / "model-express.yaml").symlink_to(tmp_path / "gone")
    with pytest.raises(SettingsError, match=r"model-express\.yaml does not exist"):
        load_settings(environ={}, cwd=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("")
    (tmp_path / "s.yaml").chmod(0)
    with pytest.raises(SettingsError, match="Permission denied"):
        load_settings(config_file=tmp_path / "s.yaml", environ={}, cwd=tmp_path)


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        ("sever:\n  port: 1", "sever", ("nearest known key: server", "known sections", "line 1")),
        (
            "server:\n  prot: 1",
            "server.prot",
            ("nearest known key: server.port", "host, port, metrics_port", "line 2"),
        ),
        ("Server: {port: 1}", "Server", ("nearest known key: server",)),
        ("port: 1", "port", ("nearest known key: ",)),
        ("cache: {eviction: {policy: {unused: 7d}}}", "cache.eviction.policy.unused", ("unused_threshold",)),
        (
            "cache: {eviction: {max_models: 1}}",
            "cache.eviction.max_models",
            ("cache.eviction.policy.max_models",),
        ),
        ("qqq: 1", "qqq", ("known sections",)),
        ("server: 5", "server", ("found a number where a section is expected", "host, port")),
        ("server: [1]", "server", ("found a list where a section is expected",)),
        ("providers: {huggingface: {token: hf_x}}", "providers.huggingface.token", ("set HF_TOKEN instead",)),
        ("pod: {name: x}", "pod.name", ("set POD_NAME instead",)),
    ],
)
def test_unknown_keys_are_refused_with_a_way_out(
    tmp_path: Path, content: str, key: str, words: tuple[str, ...]
) -> None:
    (problem,) = problems(tmp_path, content)
    assert problem.startswith(f"{key}: ")
    assert f"file:{tmp_path}/s.yaml" in problem
    for word in words:
        assert word in problem
    assert "hf_x" not in problem


def test_foreign_sections_pass_with_a_notice(tmp_path: Path) -> None:
    settings = load(tmp_path, "metrics: {anything: [1]}\nMX_VMM_ARENA: 1\nserver: {port: 8002}\n")
    assert settings.server.port == 8002
    assert [notice for notice in settings.notices if "no effect" in notice] == [
        f"metrics in {tmp_path}/s.yaml is known but has no effect in mx",
        f"MX_VMM_ARENA in {tmp_path}/s.yaml is known but has no effect in mx",
    ]


def test_every_problem_of_every_layer_is_reported_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "server: {port: 99999, prot: 1}\nlogging: {level: loud}\n",
        MX_STATUS_TTL_SECS="soon",
        MODEL_EXPRESS_SERVER_PORT="9000",
    )
    assert len(found) == 4
    assert any(
        one.startswith("server.port: 99999 is too large; allowed: a whole number from 1 to 65535")
        for one in found
    )


def test_dynaconfs_own_syntax_is_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNACONF_SERVER__PORT", "1")
    monkeypatch.setenv("MERGE_ENABLED_FOR_DYNACONF", "true")
    text = "@format {this.server.port}"
    settings = load(
        tmp_path,
        f'worker: {{model_revision: "{text}", topology_levels: [a]}}',
        POD_NAME='@jinja {{ "x" }}',
        MX_MODEL_REVISION="",
        scope="worker",
    )
    assert settings.worker.model_revision == text
    assert settings.pod.name == '@jinja {{ "x" }}'
    # Lists are replaced by a higher layer, not joined with the default.
    assert settings.worker.topology_levels == ("a",)
    assert settings.server.port == 8001


def test_the_file_of_model_init_is_below_the_settings_file(tmp_path: Path) -> None:
    folder = tmp_path / ".model-express"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "local_path: /m\nserver_endpoint: http://h:1\ntimeout_secs: 60\nshared_storage: false\n"
        "transfer_chunk_size: 1024\n"
    )
    settings = load(tmp_path, "connection: {timeout_secs: 5}", scope="client")
    assert settings.cache.local_path == Path("/m")
    assert settings.cache.server_endpoint == "http://h:1"
    assert settings.cache.shared_storage is False
    assert settings.cache.transfer_chunk_bytes == 1024
    assert settings.client.timeout_s == 5
    assert str(settings.origins["cache.local_path"]) == f"file:{folder}/config.yaml"
    # It is the command line's file: a server does not read it.
    assert load(tmp_path, "", scope="server").cache.local_path is None
    (folder / "config.yaml").write_text("local_pth: /m\n")
    with pytest.raises(SettingsError, match="local_pth: unknown key; nearest known key: local_path"):
        load(tmp_path, "", scope="client")


def test_where_a_file_is_looked_for(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    (tmp_path / "model-express.yml").write_text("server: {port: 2}")
    assert load_settings(environ=environ, cwd=tmp_path).server.port == 2
    (tmp_path / "model-express.yaml").write_text("server: {port: 1}")
    assert load_settings(environ=environ, cwd=tmp_path).server.port == 1
    (tmp_path / "named.yaml").write_text("server: {port: 3}")
    named = {**environ, "MODEL_EXPRESS_CONFIG": "named.yaml"}
    assert load_settings(environ=named, cwd=tmp_path).server.port == 3
    assert (
        load_settings(environ={**environ, "MODEL_EXPRESS_CONFIG": "~/named.yaml"}, cwd=Path("/")).server.port
        == 3
    )
    (tmp_path / "flag.yaml").write_text("server: {port: 4}")
    assert load_settings(environ=named, cwd=tmp_path, config_file=Path("flag.yaml")).server.port == 4
    # A worker's working directory is the engine's.
    assert load_settings(environ=environ, cwd=tmp_path, scope="worker").config_file is None
    assert load_settings(environ=named, cwd=tmp_path, scope="worker").server.port == 3
