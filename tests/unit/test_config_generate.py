"""Generated files: complete, explained, equal to the defaults when read again; migration loses nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mx.config import Settings, load_settings
from mx.config.defaults import read_defaults
from mx.config.generate import Form, diff, generate
from mx.config.options import SCOPES, Scope
from mx.config.tree import TABLE
from mx.errors import SettingsError

ROOT = Path(__file__).parents[2]
FORMS: tuple[Form, ...] = ("yaml", "toml")


def load(tmp_path: Path, text: str | None, form: Form, *, scope: Scope = "server") -> Settings:
    file = None
    if text is not None:
        file = tmp_path / f"generated.{form}"
        file.write_text(text, encoding="utf-8")
    return load_settings(config_file=file, environ={"HOME": str(tmp_path)}, cwd=tmp_path, scope=scope)


def values(settings: Settings) -> Settings:
    """Without what says where values came from."""
    return dataclasses.replace(settings, config_file=None, origins={}, notices=())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_generated_file_changes_nothing(form: Form, scope: Scope, tmp_path: Path) -> None:
    generated = load(tmp_path, generate(form).text, form, scope=scope)
    default = load(tmp_path, None, form, scope=scope)
    if scope == "client":
        # A file that says info means it; only where nothing is said do commands start at warn.
        assert (generated.logging.level, default.logging.level) == ("info", "warn")
        default = dataclasses.replace(default, logging=dataclasses.replace(default.logging, level="info"))
    assert values(generated) == values(default)


@pytest.mark.parametrize("form", FORMS)
def test_every_setting_is_in_the_file_with_its_explanation(form: Form, tmp_path: Path) -> None:
    text = generate(form).text
    generated = load(tmp_path, text, form)
    joined = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    # Empty in the file, so filled in by the program.
    derived = {"worker.artifacts.bundle_root"} | {
        f"providers.huggingface.{name}" for name in ("home", "hub_cache", "token_path")
    }
    for option in TABLE:
        assert generated.explicit(option.key) == (not option.env_only and option.key not in derived), (
            option.key
        )
        assert read_defaults().comments[option.key] in joined
        assert all(name in text for name in option.env)
    assert max(len(line) for line in text.splitlines()) <= 110


OLD = """
server: {port: 9000}
database: {path: "./old.db"}
cache:
  directory: ~/models
  eviction:
    check_interval: 7200
    policy: {type: Lru, unused_threshold: 604800, max_models: 5}
logging: {level: Warn, file: "./a b.log"}
security:
  mode: off
  token_audiences: [one, two]
  allowed_service_accounts: [{namespace: a, service_account: b}]
metrics: {enabled: true}
server_token: hidden-one
nested: {deep: {list: [1, "x: y"]}}
worker:
  topology: {zone: "a#b"}
  model_revision: "off"
  wings: 2
providers: {huggingface: {token: hidden-two}}
"""


@pytest.mark.parametrize("form", FORMS)
def test_migration_keeps_every_value_and_every_unknown_key(form: Form, tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(OLD)
    made = generate(form, migrate=old)
    new = load(tmp_path, made.text, form)
    assert new.server.port == 9000
    assert new.database.path == tmp_path / "old.db"
    assert new.cache.directory == tmp_path / "models"
    assert new.cache.eviction.check_interval_s == 7200
    assert new.cache.eviction.policy.max_models == 5
    assert new.logging.level == "warn"
    assert new.logging.file == tmp_path / "a b.log"
    assert new.security.token_audiences == ("one", "two")
    assert str(new.security.allowed_service_accounts[0]) == "a:b"
    assert new.worker.topology == {"zone": "a#b"}
    assert new.worker.model_revision == "off"
    assert made.unknown == (
        "metrics",
        "server_token",
        "nested",
        "worker.wings",
        "providers.huggingface.token",
    )
    comments = [line for line in made.text.splitlines() if line.startswith("#   ")]
    assert len(comments) == len(made.unknown)
    assert any('{"deep": {"list": [1, "x: y"]}}' in line for line in comments)
    # Values are in the form that the guide shows.
    assert "2h" in made.text
    assert "./old.db" in made.text
    assert "hidden" not in made.text
    # Migrating the result again changes nothing but the comments.
    again = tmp_path / f"again.{form}"
    again.write_text(made.text)
    assert load(tmp_path, generate(form, migrate=again).text, form).cache == new.cache


def test_yaml_becomes_toml_and_back(tmp_path: Path) -> None:
    yaml = tmp_path / "a.yaml"
    yaml.write_text(
        "server: {port: 5, host: '::1'}\nredis: {url: 'redis://h'}\ncache: {max_size_bytes: 1000}"
    )
    toml = tmp_path / "a.toml"
    toml.write_text(generate("toml", migrate=yaml).text)
    back = generate("yaml", migrate=toml).text
    settings = load(tmp_path, back, "yaml")
    assert (settings.server.port, settings.server.host) == (5, "::1")
    assert settings.redis.url == "redis://h"
    assert settings.cache.max_size_bytes == 1000


def test_a_wrong_value_stops_a_migration(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text("server: {port: 99999}\nlogging: {level: loud}")
    with pytest.raises(SettingsError) as caught:
        generate("yaml", migrate=old)
    assert [one.split(":")[0] for one in caught.value.problems] == ["server.port", "logging.level"]


@pytest.mark.parametrize(
    "text", ["a: b", "é", '"', "\\", "#x", "- x", "{}", "null", "~", "1e3", ".5", "0x1f", "x\x7f"]
)
@pytest.mark.parametrize("form", FORMS)
def test_odd_text_comes_back_as_it_was(text: str, form: Form, tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    # JSON is YAML, which gives a second writer to compare with.
    old.write_text(
        json.dumps({"logging": {"file": f"/{text}"}, "worker": {"rdma_nic_pin": text.replace("\x7f", "")}})
    )
    new = load(tmp_path, generate(form, migrate=old).text, form)
    assert new.logging.file == Path(f"/{text}")
    assert new.worker.rdma_nic_pin == text.replace("\x7f", "")


def test_a_diff_shows_what_changes() -> None:
    assert diff("a\n", "a\n", old_name="o", new_name="n") == ""
    assert diff("a\nb", "a\nc", old_name="o", new_name="n") == "--- o\n+++ n\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"


def test_the_wheel_brings_settings_toml_and_finds_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert (site / "mx/settings.toml").read_bytes() == (ROOT / "settings.toml").read_bytes()
    # A stranger's file beside the package must not be taken for ours.
    (site / "settings.toml").write_text("[server]\nport = 1\n")
    code = (
        "import mx.config.defaults as d, mx.config as c; "
        "print(d.defaults_path()); print(c.load_settings(environ={}).server.port)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(site / "mx/settings.toml"), "8001"]
