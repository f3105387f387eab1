"""The checked-in modules agree with the protos, and live beside the published package."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from mx.wire.runtime import POOL, service_handler
from mx.wire.v1 import admin, api, health, model, p2p, peer

ROOT = Path(__file__).resolve().parents[2]
# SHA-256 of the serialized descriptors of release 0.7.0.
PUBLISHED = {
    "p2p": "67eb4eb1c80264d4075b8e806ebdc33c4923fcb1c67c2aa354f8128d7fee5ed9",
    "model": "27599e68e79bfc20c57fa838c9da0e4ffb4b1bea258bb580dcce3613da61ae06",
}


def test_checked_in_modules_agree_with_the_protos() -> None:
    """In a process of its own: grpc_tools and NIXL bring clashing copies of libprotobuf."""
    check = subprocess.run(
        [sys.executable, str(ROOT / "protos" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, f"{check.stdout}{check.stderr}"


def test_published_descriptors_are_byte_identical() -> None:
    for name, module in (("p2p", p2p), ("model", model)):
        assert hashlib.sha256(module.DESCRIPTOR.serialized_pb).hexdigest() == PUBLISHED[name]


def test_nothing_of_ours_is_in_the_default_pool() -> None:
    for module in (api, health, model, p2p, admin, peer):
        name = module.DESCRIPTOR.name
        assert POOL.FindFileByName(name).name == name
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindFileByName(name)


def test_an_incomplete_service_is_refused() -> None:
    with pytest.raises(TypeError, match=r"lacks model_express\.p2p\.P2pService\.PublishMetadata"):
        service_handler(p2p.DESCRIPTOR, "P2pService", object())


def test_messages_alone_do_not_load_grpc() -> None:
    code = "import sys, mx.wire.v1.p2p, mx.wire.v1.admin, mx.wire.codec; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.interop
def test_both_packages_in_one_process() -> None:
    """Runs in the environment of the published package: other protobuf, default pool taken."""
    python = os.environ.get("MX_INTEROP_PYTHON")
    if not python:
        pytest.skip("MX_INTEROP_PYTHON names no interpreter that has the published package")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from modelexpress import model_pb2, p2p_pb2
from mx.wire.v1 import admin, model, p2p, peer
assert p2p_pb2.DESCRIPTOR.serialized_pb == p2p.DESCRIPTOR.serialized_pb
assert model_pb2.DESCRIPTOR.serialized_pb == model.DESCRIPTOR.serialized_pb
theirs = p2p_pb2.SourceInstanceRef(worker_id="w", source_load=0.0, topology={"zone": "a"})
ours = p2p.SourceInstanceRef.FromString(theirs.SerializeToString())
assert ours.HasField("source_load") and ours.SerializeToString() == theirs.SerializeToString()
"""
    for implementation in ("upb", "python"):
        env = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
        subprocess.run([python, "-c", code, str(ROOT)], check=True, env=env, cwd="/")
