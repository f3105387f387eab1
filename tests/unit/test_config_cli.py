"""`mx config` as a user runs it: exit codes, streams, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def mx(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mx", *words],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(cwd), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_generate_then_validate_then_refuse_to_overwrite(tmp_path: Path) -> None:
    made = mx("config", "generate", cwd=tmp_path)
    assert (made.returncode, made.stdout) == (0, "model-express.yaml written\n")
    file = tmp_path / "model-express.yaml"
    valid = mx("config", "validate", cwd=tmp_path)
    assert (valid.returncode, valid.stdout) == (0, f"settings are valid ({file})\n")

    file.write_text("server: {port: 7}\n")
    refused = mx("config", "generate", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "model-express.yaml exists" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert file.read_text() == "server: {port: 7}\n"

    file.chmod(0o640)
    done = mx("config", "generate", "-i", file.name, "--overwrite", "--show-diff", cwd=tmp_path)
    assert done.returncode == 0
    assert "-server: {port: 7}" in done.stderr
    assert "  port: 7\n" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model-express.yaml"]


def test_dry_run_writes_nothing_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("redis: {url: 'redis://:geheim@h'}\nfoo: 1\n")
    done = mx("config", "generate", "-i", "old.yaml", "-f", "toml", "--dry-run", "--show-diff", cwd=tmp_path)
    assert done.returncode == 0
    assert "[server]" in done.stdout
    assert "geheim" not in done.stdout + done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["old.yaml"]


def test_a_migrated_password_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("redis: {url: 'redis://:geheim@h'}\n")
    assert mx("config", "generate", "-i", "old.yaml", cwd=tmp_path).returncode == 0
    made = tmp_path / "model-express.yaml"
    assert "redis://:geheim@h" in made.read_text()
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("generate", "-o", "none/x.yaml"), 1, "none/x.yaml can't be written: No such file or directory"),
        (("generate", "-o", "x.yaml", "-f", "toml"), 2, "x.yaml would be read as YAML"),
        (("generate", "-f", "xml"), 2, "xml"),
        (("generate", "-i", "none.yaml"), 1, "none.yaml does not exist"),
        (("validate", "--config", "none.yaml"), 1, "does not exist"),
        (("show", "--for", "nobody"), 2, "nobody"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(
    words: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = mx("config", *words, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_validate_names_every_error(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("server:\n  port: 0\n  prot: 1\n")
    done = mx("config", "validate", "--config", "f.yaml", cwd=tmp_path, MX_GC_TIMEOUT_SECS="x")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1].strip() for line in errors] == [
        "server.port",
        "server.prot",
        "sources.gc_timeout_s",
    ]
    failed = mx("config", "validate", "--config", "f.yaml", "-f", "json", cwd=tmp_path)
    document = json.loads(failed.stdout)
    assert document["success"] is False
    assert "server.port" in document["error"]


def test_show_as_json_and_for_people(tmp_path: Path) -> None:
    (tmp_path / "model-express.yaml").write_text("server: {port: 7}\n")
    environ = {"MODEL_EXPRESS_LOG_LEVEL": "debug", "HF_TOKEN": "geheim"}
    done = mx("config", "show", "--format", "json-pretty", cwd=tmp_path, **environ)
    assert done.returncode == 0
    rows: dict[str, Any] = {row["key"]: row for row in json.loads(done.stdout)["settings"]}
    assert rows["server.port"] == {
        "key": "server.port",
        "value": 7,
        "origin": f"file:{tmp_path}/model-express.yaml",
    }
    assert rows["logging.level"]["origin"] == "env:MODEL_EXPRESS_LOG_LEVEL"
    assert rows["providers.huggingface.token"]["value"] == "***"
    assert rows["server.host"]["origin"] == "default"
    text = mx("config", "show", cwd=tmp_path, **environ)
    assert text.returncode == 0
    (line,) = [line for line in text.stdout.splitlines() if line.startswith("server.port ")]
    assert line.split() == ["server.port", "7", f"file:{tmp_path}/model-express.yaml"]
    assert "note: metadata.backend is not set" in text.stderr
    assert "geheim" not in done.stdout + text.stdout + text.stderr


def test_show_for_a_worker(tmp_path: Path) -> None:
    done = mx(
        "config", "show", "--for", "worker", "-f", "json", cwd=tmp_path, MX_METADATA_BACKEND="k8s-service"
    )
    rows = {row["key"]: row for row in json.loads(done.stdout)["settings"]}
    assert rows["worker.metadata_backend"]["value"] == "k8s-service"
    assert rows["metadata.backend"]["origin"] == "default"
