"""The published model-cache client against a real mx server: metadata first, then the weights."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from interop_support import SERVER, mx_server

from mx.testing.fake_hub import FakeHub

FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "empty.txt": b"",
    "model-00001-of-00002.safetensors": os.urandom(3_000_000),
    "nested/model-00002-of-00002.safetensors": os.urandom(1_000_001),
    "tokenizer.json": b"{}" * 50_000,
}
CLIENT = """
import json, sys
from pathlib import Path
from modelexpress.model_client import ModelCacheClient

address, cache, revision = sys.argv[1:]
with ModelCacheClient("http://" + address, cache_directory=cache) as client:
    snapshot = client.install_metadata_snapshot("org/model", requested_revision=revision or None)
    def content():
        return {str(p.relative_to(snapshot)): p.stat().st_size for p in snapshot.rglob("*") if p.is_file()}
    metadata = content()
    assert client.install_metadata_snapshot("org/model", requested_revision=revision or None) == snapshot
    client.install_weight_files("org/model", snapshot)
    client.install_weight_files("org/model", snapshot)
    print(json.dumps({"snapshot": str(snapshot), "metadata": metadata, "whole": content()}))
"""


@pytest.mark.parametrize("revision", ["", "main", "commit"])
def test_the_strict_client_installs_metadata_and_then_weights(
    published_python: str, tmp_path: Path, revision: str
) -> None:
    with FakeHub() as hub:
        commit = hub.add("org/model", FILES)
        flags = {"providers.huggingface.endpoint": hub.endpoint, "cache.directory": str(tmp_path / "cache")}
        program = SERVER.replace("\nsettings =", f"\nflags |= {flags!r}\nsettings =")
        with mx_server(tmp_path, program=program) as address:
            asked = commit if revision == "commit" else revision
            done = subprocess.run(
                [published_python, "-c", CLIENT, address, str(tmp_path / "client-cache"), asked],
                capture_output=True,
                cwd=tmp_path,
                timeout=60,
                check=False,
            )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    snapshot = Path(told["snapshot"])
    assert snapshot.name == commit
    metadata = {path: len(data) for path, data in FILES.items() if not path.endswith(".safetensors")}
    assert told["metadata"] == metadata
    assert told["whole"] == {path: len(data) for path, data in FILES.items()}
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES
    assert len(hub.asked("storage:")) == 2, "weights are fetched once, and not for metadata"
