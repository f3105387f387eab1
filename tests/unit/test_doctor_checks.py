"""What ``mx doctor`` reads of a machine: a tree of files in the place of ``/``, tools as scripts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from cli_runner import Bench

from mx.cli.checks import examination
from mx.cli.checks.cache import Mount, cache_facts, read_mounts
from mx.cli.checks.devices import hardware_of, read_devices
from mx.cli.checks.process import read_limits
from mx.cli.checks.secrets import secret_files
from mx.cli.checks.site import Site
from mx.cli.checks.transfer import nixl_facts
from mx.cli.options import Invocation
from mx.core.doctor.finding import CheckName, Finding, Level, ok
from mx.core.doctor.host import Gpu, Interface, Port
from mx.transfer.probe import resources


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_", "UCX_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / "root").mkdir()
    return Site(Invocation(), environ={"PATH": str(tools)}, root=tmp_path / "root")


def put(site: Site, path: str, text: str) -> None:
    file = site.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def tool(site: Site, name: str, script: str) -> None:
    path = Path(site.environ["PATH"]) / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_empty_machine_has_nothing(site: Site) -> None:
    found = read_devices(site)
    assert (found.gpus, found.ports, found.interfaces, found.gpu_failure) == ((), (), (), "")
    assert read_limits(site).shm_bytes is None
    assert read_mounts(site.root) == []


def test_gpus_as_nvidia_smi_tells_them(site: Site) -> None:
    tool(site, "nvidia-smi", "echo 'NVIDIA H100 80GB HBM3, 81559, 570.86'; echo 'rubbish'")
    assert read_devices(site).gpus == (Gpu("NVIDIA H100 80GB HBM3", 81559 << 20, "570.86"),)


def test_a_driver_without_gpus_says_why(site: Site) -> None:
    tool(site, "nvidia-smi", "echo 'No devices were found'; exit 6")
    assert read_devices(site).gpu_failure == ""  # the tool alone is no driver
    put(site, "proc/driver/nvidia/version", "NVRM version: 570\n")
    assert read_devices(site).gpu_failure == "No devices were found"


def test_gpus_without_the_tool(site: Site) -> None:
    put(site, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t NVIDIA L4\nIRQ: 1\n")
    assert read_devices(site).gpus == (Gpu("NVIDIA L4"),)


def test_amd_gpus_and_not_processors(site: Site) -> None:
    for node, count, name in (("0", "0", ""), ("1", "440", "gfx942")):
        put(site, f"sys/class/kfd/kfd/topology/nodes/{node}/properties", f"cpu_cores 8\nsimd_count {count}\n")
        put(site, f"sys/class/kfd/kfd/topology/nodes/{node}/name", f"{name}\n")
    assert read_devices(site).gpus == (Gpu("AMD gfx942"),)


def test_network_cards(site: Site) -> None:
    for device, state in (("mlx5_0", "4: ACTIVE"), ("mlx5_1", "1: DOWN")):
        port = f"sys/class/infiniband/{device}/ports/1"
        put(site, f"{port}/state", f"{state}\n")
        put(site, f"{port}/rate", "400 Gb/sec (4X NDR)\n")
        put(site, f"{port}/link_layer", "InfiniBand\n")
    put(site, "dev/infiniband/uverbs0", "")
    put(site, "sys/module/nvidia_peermem/refcnt", "0")
    for name, mtu, speed, state in (
        ("eth0", "9000", "100000", "up"),
        ("eth1", "1500", "-1", "unknown"),
        ("eth2", "1500", "1000", "down"),
        ("veth12", "1500", "10000", "up"),
        ("lo", "65536", "", "unknown"),
    ):
        for key, value in (("mtu", mtu), ("speed", speed), ("operstate", state)):
            put(site, f"sys/class/net/{name}/{key}", f"{value}\n")
    found = read_devices(site)
    assert found.ports == (
        Port("mlx5_0", "1", "InfiniBand", True, "400 Gb/sec (4X NDR)"),
        Port("mlx5_1", "1", "InfiniBand", False, "400 Gb/sec (4X NDR)"),
    )
    assert found.interfaces == (Interface("eth0", 9000, 100_000), Interface("eth1", 1500, None))
    assert (found.verbs, found.peer_memory) == (True, True)
    assert hardware_of(found).rdma_devices == ("mlx5_0",)


# ---- cache -----------------------------------------------------------------------------------


def test_mounts_are_read_with_their_odd_names(site: Site) -> None:
    put(site, "proc/self/mounts", "/dev/sda / ext4 rw 0 0\nserver:/x /models\\040here nfs4 rw 0 0\nbroken\n")
    assert read_mounts(site.root) == [Mount(Path("/"), "ext4"), Mount(Path("/models here"), "nfs4")]


def test_a_cache_is_left_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    mounts = [Mount(Path("/"), "overlay"), Mount(root, "xfs"), Mount(root / "blobs", "nfs")]
    absent = cache_facts("mine", root, mounts)
    assert (absent.exists, absent.failure, absent.kind) == (False, "", "overlay")
    assert not root.exists()
    root.mkdir()
    found = cache_facts("mine", root, mounts)
    assert (found.exists, found.failure, found.links, found.kind) == (True, "", "", "xfs")
    assert found.mounts == (str(root / "blobs"),)
    assert found.disk_bytes > found.free_bytes > 0
    assert list(root.iterdir()) == []


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    assert "directory" in cache_facts("mine", tmp_path / "cache", []).failure


# ---- secrets, NIXL ---------------------------------------------------------------------------


def test_files_with_secrets(site: Site, tmp_path: Path) -> None:
    token = tmp_path / ".cache/huggingface/token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_x")
    token.chmod(0o644)
    settings = tmp_path / "model-express.yaml"
    settings.write_text("redis:\n  url: redis://user:password@r:6379\n")
    settings.chmod(0o664)
    loaded, facts = site.scopes()
    assert not [one for one in facts if one.problems]
    assert {(one.path, one.mode) for one in secret_files(loaded)} == {
        (str(token), 0o644),
        (str(settings), 0o664),
    }


@pytest.mark.parametrize(
    ("code", "answer", "talk", "failure"),
    [
        (0, '{"installed": true, "version": "1"}', "", ""),
        (
            0,
            '{"installed": true, "failure": "E"}',
            "[1.2] x.c:1 UCX  ERROR no device\n",
            "E; UCX says: no device",
        ),
        (-11, "", "a\nSegmentation fault\n", "its process ended by signal 11: Segmentation fault"),
        (1, "rubbish", "", "its process ended with 1"),
    ],
)
def test_how_trying_nixl_ended(code: int, answer: str, talk: str, failure: str) -> None:
    assert nixl_facts(code, answer, talk).failure == failure


def test_transports_of_ucxs_list() -> None:
    text = (
        "#\n# UCP context\n#     component 0  :  self\n#  resource 0  :  md 0  dev 0  flags -- tcp/eth0\n#\n"
    )
    assert resources(text) == ["tcp/eth0"]


# ---- the examination -------------------------------------------------------------------------


def test_what_hangs_or_breaks_costs_its_own_lines() -> None:
    release = threading.Event()

    def hangs() -> list[Finding]:
        release.wait()
        return []

    def breaks() -> list[Finding]:
        raise ZeroDivisionError("division by zero")

    done = examination.together(
        {
            CheckName.CACHE: (hangs, 0.05),
            CheckName.SERVER: (breaks, 60.0),
            CheckName.PYTHON: (lambda: [ok("well")], 60.0),
        }
    )
    release.set()
    levels = {name: [one.level for one in checked.findings] for name, checked in done.items()}
    assert levels == {
        CheckName.CACHE: [Level.ERROR],
        CheckName.SERVER: [Level.WARNING],
        CheckName.PYTHON: [Level.OK],
    }
    assert "ZeroDivisionError" in done[CheckName.SERVER].findings[0].text


def test_the_command_tells_what_is_wrong_and_ends_with_1(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model-express.yaml").write_text("connection:\n  timeout_secs: never\n")
    ran = Bench().mx("doctor", "--only", "settings", "--only", "server", "-f", "json")
    assert ran.code == 1
    assert ran.json["ok"] is False
    assert [check["check"] for check in ran.json["checks"]] == ["settings", "server"]
    first = ran.json["checks"][0]["findings"][0]
    assert first["level"] == "error"
    assert "timeout_secs" in first["text"]
    assert first["remedy"]
    assert "error" in ran.err


def test_problems_only(site: Site) -> None:
    ran = Bench().mx("doctor", "--only", "python", "--only", "ucx", "--problems")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing is wrong" in ran.err
    assert "python" in Bench().mx("doctor", "--only", "python").out
