"""What ``mx doctor`` makes of facts: for each fact that hurts the level, the words and a remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mx.core.doctor.cache import CacheFacts, judge_cache
from mx.core.doctor.finding import Finding, Level
from mx.core.doctor.host import (
    Devices,
    Gpu,
    Interface,
    Limits,
    Packages,
    Port,
    judge_devices,
    judge_limits,
    judge_python,
    judge_vllm,
)
from mx.core.doctor.server import ServerFacts, judge_server
from mx.core.doctor.settings import ScopeFacts, SecretFile, judge_settings
from mx.core.doctor.transfer import Hardware, NixlFacts, judge_nixl, judge_ucx
from mx.core.server_state import BackendState, ServerStatus
from mx.errors import MxError, PermissionDeniedError, UnavailableError

GIB = 1 << 30


def worst(findings: list[Finding]) -> Level:
    levels = list(Level)
    return max((one.level for one in findings), key=levels.index)


def telling(findings: list[Finding], words: str) -> Finding:
    """The one finding with these words; what is wrong always has a remedy."""
    (found,) = [one for one in findings if words in one.text]
    assert found.remedy or found.level in (Level.OK, Level.INFO)
    return found


# ---- settings --------------------------------------------------------------------------------


def test_sound_settings_are_one_line() -> None:
    (found,) = judge_settings([ScopeFacts("client"), ScopeFacts("server"), ScopeFacts("worker")], [])
    assert found.level is Level.OK
    assert "no settings file" in found.text


def test_a_problem_of_the_client_is_an_error_and_is_told_once() -> None:
    found = judge_settings(
        [ScopeFacts("client", problems=("x: bad",)), ScopeFacts("server", problems=("x: bad",))], []
    )
    assert [(one.level, one.text) for one in found] == [(Level.ERROR, "x: bad")]


def test_a_problem_of_a_server_alone_warns_on_a_machine_that_may_have_none() -> None:
    found = judge_settings([ScopeFacts("client"), ScopeFacts("server", problems=("x: bad",))], [])
    assert worst(found) is Level.WARNING
    assert "a server would not start" in telling(found, "x: bad").text


def test_notices_warn_and_a_servers_own_choices_do_not() -> None:
    scopes = [
        ScopeFacts("client", notices=("A is deprecated",)),
        ScopeFacts("server", notices=("B is chosen",)),
    ]
    found = judge_settings(scopes, [])
    assert telling(found, "A is deprecated").level is Level.WARNING
    assert telling(found, "B is chosen").level is Level.INFO


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o600, ""),
        (0o400, ""),
        (0o640, "read by its group"),
        (0o644, "read by everybody"),
        (0o666, "changed by"),
    ],
)
def test_secrets_are_for_the_owner(mode: int, words: str) -> None:
    found = judge_settings([ScopeFacts("client")], [SecretFile("the token", "/t", mode)])
    assert bool(words) == any("/t" in one.text for one in found)
    if words:
        assert telling(found, words).remedy == "chmod 600 /t"


# ---- server ----------------------------------------------------------------------------------

STATUS = ServerStatus(
    version="1.2.3",
    started_at_ms=0,
    ready=True,
    draining=False,
    store_backend="redis",
    store_ok=True,
    store_latency_ms=0.7,
    sources_by_status={},
    listen="h:1",
    settings_file="",
)
WELL = ServerFacts(
    endpoint="http://h:1",
    named=True,
    own_version="1.2.3",
    latencies_ms=(1.0, 2.0, 3.0),
    version="1.2.3",
    health="ok",
    status=STATUS,
    ahead_s=0.2,
    ahead_within_s=0.01,
)


def test_a_well_server_has_nothing_wrong() -> None:
    assert worst(judge_server(WELL)) is Level.OK


@pytest.mark.parametrize(
    ("failure", "named", "level"),
    [
        (UnavailableError("refused"), True, Level.ERROR),
        (UnavailableError("refused"), False, Level.WARNING),
        (PermissionDeniedError("no"), False, Level.ERROR),
    ],
)
def test_no_answer(failure: MxError, named: bool, level: Level) -> None:
    (found,) = judge_server(replace(WELL, failure=failure, named=named))
    assert found.level is level
    assert found.remedy
    assert failure.message in found.text


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (replace(WELL, latencies_ms=(1.0, 200.0, 300.0)), Level.WARNING, "200.0 ms"),
        (replace(WELL, health="store unavailable"), Level.ERROR, "can't serve: store unavailable"),
        (replace(WELL, status=replace(STATUS, ready=False)), Level.ERROR, "can't serve"),
        (replace(WELL, status=replace(STATUS, draining=True)), Level.WARNING, "draining"),
        (replace(WELL, version="1.2.9"), Level.INFO, "1.2.9"),
        (replace(WELL, version="1.3.0"), Level.WARNING, "1.3.0"),
        (replace(WELL, version="0.7.0", status=None), Level.INFO, "0.7.0"),
        (replace(WELL, ahead_s=5.0), Level.OK, "clocks agree"),
        (replace(WELL, ahead_s=192.0), Level.WARNING, "3m 12s ahead"),
        (replace(WELL, ahead_s=-192.0), Level.WARNING, "3m 12s behind"),
        (replace(WELL, ahead_s=8.0, ahead_within_s=4.0), Level.OK, "clocks agree"),
        (replace(WELL, status=replace(STATUS, store_backend="memory")), Level.WARNING, "end with it"),
        (replace(WELL, status=replace(STATUS, store_latency_ms=90)), Level.WARNING, "90.0 ms"),
        (
            replace(WELL, status=replace(STATUS, sources_by_status={"STALE": 2})),
            Level.INFO,
            "2 sources are stale",
        ),
        (replace(WELL, status=replace(STATUS, read_only=True)), Level.INFO, "may look"),
        (
            replace(WELL, backends=(BackendState("models", "redis", "r:6379", False, 0.0, error="refused"),)),
            Level.ERROR,
            "the redis store of models at r:6379 can't be reached: refused",
        ),
    ],
)
def test_what_a_server_lacks(facts: ServerFacts, level: Level, words: str) -> None:
    assert telling(judge_server(facts), words).level is level


# ---- cache -----------------------------------------------------------------------------------

CACHE = CacheFacts(
    whose="this machine's", path="/c", exists=True, kind="ext4", free_bytes=500 * GIB, disk_bytes=1000 * GIB
)


def test_a_sound_cache() -> None:
    assert worst(judge_cache(CACHE)) is Level.OK


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (replace(CACHE, failure="Read-only file system"), Level.ERROR, "Read-only file system"),
        (replace(CACHE, free_bytes=GIB), Level.WARNING, "1.00 GiB"),
        (replace(CACHE, disk_bytes=GIB, free_bytes=GIB // 2), Level.OK, "512 MiB"),
        (replace(CACHE, min_free_bytes=600 * GIB), Level.WARNING, "min_free_space_bytes"),
        (replace(CACHE, max_size_bytes=2000 * GIB), Level.WARNING, "more than the disk has"),
        (replace(CACHE, free_inodes=0), Level.ERROR, "inode"),
        (replace(CACHE, links="Operation not permitted"), Level.INFO, "hard links"),
        (replace(CACHE, mounts=("/c/blobs",)), Level.ERROR, "/c/blobs"),
        (replace(CACHE, kind="tmpfs"), Level.WARNING, "memory"),
        (replace(CACHE, kind="overlay"), Level.INFO, "container"),
        (replace(CACHE, kind="fuse.gcsfuse"), Level.INFO, "shared file system"),
    ],
)
def test_what_a_cache_lacks(facts: CacheFacts, level: Level, words: str) -> None:
    assert telling(judge_cache(facts), words).level is level


# ---- the machine -----------------------------------------------------------------------------

CARD = Port("mlx5_0", "1", "InfiniBand", True, "400 Gb/sec (4X NDR)")
DEVICES = Devices(gpus=(Gpu("H100", 80 * GIB, "570"),), ports=(CARD,), verbs=True, peer_memory=True)


def test_a_gpu_node_as_it_should_be() -> None:
    assert worst(judge_devices(DEVICES)) is Level.INFO


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (replace(DEVICES, verbs=False), Level.ERROR, "/dev/infiniband"),
        (replace(DEVICES, peer_memory=False), Level.INFO, "nvidia_peermem"),
        (replace(DEVICES, ports=(replace(CARD, active=False),)), Level.WARNING, "not active"),
        (Devices(gpu_failure="No devices were found"), Level.ERROR, "No devices were found"),
        (Devices(), Level.INFO, "no GPU"),
        (Devices(), Level.INFO, "go by TCP"),
    ],
)
def test_what_devices_lack(facts: Devices, level: Level, words: str) -> None:
    assert telling(judge_devices(facts), words).level is level


def test_a_fast_link_with_small_packets_has_a_remedy() -> None:
    for mtu, hint in ((1500, True), (9000, False)):
        found = judge_devices(Devices(interfaces=(Interface("eth0", mtu, 100_000),)))
        assert bool(telling(found, "eth0").remedy) is hint


LIMITS = Limits(memlock_bytes=None, files=1 << 20, files_most=1 << 20, shm_bytes=8 * GIB)


@pytest.mark.parametrize(
    ("limits", "rdma", "level", "words"),
    [
        (LIMITS, True, Level.OK, "no bound"),
        (replace(LIMITS, memlock_bytes=8 << 20), True, Level.ERROR, "8.00 MiB"),
        (replace(LIMITS, memlock_bytes=8 << 20), False, Level.INFO, "8.00 MiB"),
        (replace(LIMITS, files=1024), False, Level.WARNING, "open files: 1024"),
        (replace(LIMITS, shm_bytes=64 << 20), False, Level.WARNING, "/dev/shm"),
        (replace(LIMITS, ptrace_scope=2), False, Level.WARNING, "ptrace_scope"),
    ],
)
def test_limits(limits: Limits, rdma: bool, level: Level, words: str) -> None:
    assert telling(judge_limits(limits, rdma=rdma), words).level is level


PACKAGES = Packages(
    python=(3, 11, 2),
    own_version="1.0.0",
    versions=(("vllm", "0.32"),),
    metadata_version="1.0.0",
    plugins=(("modelexpress", "mx.engines.vllm:register"),),
)


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (PACKAGES, Level.OK, "--load-format mx"),
        (replace(PACKAGES, versions=()), Level.INFO, "not installed"),
        (replace(PACKAGES, plugins=()), Level.ERROR, "does not see"),
        (replace(PACKAGES, allowed=("other",)), Level.ERROR, "VLLM_PLUGINS leaves"),
        (replace(PACKAGES, allowed=("other", "modelexpress")), Level.OK, "--load-format mx"),
        (replace(PACKAGES, registers=False), Level.WARNING, "MX_REGISTER_LOADERS"),
        (
            replace(PACKAGES, plugins=(*PACKAGES.plugins, ("modelexpress", "modelexpress.x:y"))),
            Level.WARNING,
            "another package",
        ),
    ],
)
def test_vllm(facts: Packages, level: Level, words: str) -> None:
    assert telling(judge_vllm(facts), words).level is level


def test_two_copies_of_mx_are_noticed() -> None:
    assert worst(judge_python(PACKAGES)) is Level.INFO
    assert telling(judge_python(replace(PACKAGES, metadata_version="0.9")), "0.9").level is Level.WARNING


# ---- NIXL and UCX ----------------------------------------------------------------------------

PLAIN = Hardware(interfaces=("lo", "eth0"))
FAST = Hardware(rdma_devices=("mlx5_0", "mlx5_1"), gpus=8, interfaces=("lo", "eth0"))
NIXL = NixlFacts(
    installed=True,
    version="1.5.1",
    ucx_version="1.23",
    transports=("rc_mlx5/mlx5_0:1", "tcp/eth0", "cma/memory", "cuda_copy/cuda"),
)


@pytest.mark.parametrize(
    ("facts", "hardware", "engine", "level", "words"),
    [
        (NIXL, FAST, True, Level.OK, "starts with UCX"),
        (NixlFacts(installed=False), PLAIN, False, Level.INFO, "not installed"),
        (NixlFacts(installed=False), PLAIN, True, Level.WARNING, "not installed"),
        (replace(NIXL, failure="no such device"), PLAIN, True, Level.ERROR, "no such device"),
        (
            replace(NIXL, transports=("tcp/eth0", "cma/memory", "cuda_ipc/cuda")),
            FAST,
            True,
            Level.WARNING,
            "mlx5_0",
        ),
        (replace(NIXL, transports=("rc/mlx5_0", "sysv/memory")), FAST, True, Level.WARNING, "GPU memory"),
        (replace(NIXL, transports=("tcp/eth0",)), PLAIN, True, Level.WARNING, "shared memory"),
    ],
)
def test_nixl(facts: NixlFacts, hardware: Hardware, engine: bool, level: Level, words: str) -> None:
    assert telling(judge_nixl(facts, hardware, engine=engine), words).level is level


@pytest.mark.parametrize(
    ("values", "hardware", "level", "words"),
    [
        ({}, FAST, Level.OK, "nothing"),
        ({"UCX_LOG_LEVEL": "error", "PATH": "x"}, FAST, Level.OK, "nothing"),
        ({"UCX_TLS": "all"}, FAST, Level.INFO, "set by hand"),
        ({"UCX_TLS": "^cuda_ipc"}, FAST, Level.INFO, "set by hand"),
        ({"UCX_TLS": "tcp"}, FAST, Level.INFO, "lifted"),
        ({"UCX_TLS": "tcp,sm,cuda"}, FAST, Level.WARNING, "off the RDMA cards"),
        ({"UCX_TLS": "tcp,sm,rc_x"}, FAST, Level.ERROR, "off GPU memory"),
        ({"UCX_TLS": "rc,sm,cuda_copy"}, FAST, Level.WARNING, "leaves tcp out"),
        ({"UCX_TLS": "self,tcp"}, PLAIN, Level.WARNING, "leaves shared memory out"),
        ({"UCX_TLS": "^ib"}, FAST, Level.WARNING, "off the RDMA cards"),
        ({"UCX_NET_DEVICES": "all"}, FAST, Level.OK, "nothing"),
        ({"UCX_NET_DEVICES": "ib0"}, FAST, Level.ERROR, "names no device"),
        ({"UCX_NET_DEVICES": "mlx5_0:1,ib0"}, FAST, Level.WARNING, "ib0"),
        ({"UCX_NET_DEVICES": "mlx5_0:1"}, FAST, Level.INFO, "unused: mlx5_1"),
        ({"UCX_NET_DEVICES": "eth*"}, FAST, Level.INFO, "unused"),
        ({"UCX_RNDV_THRESH": "inf"}, PLAIN, Level.WARNING, "UCX_RNDV_THRESH"),
        ({"UCX_RNDV_SCHEME": "am"}, PLAIN, Level.WARNING, "UCX_RNDV_SCHEME"),
        ({"UCX_RNDV_SCHEME": "get_zcopy", "UCX_RNDV_THRESH": "0"}, PLAIN, Level.OK, "UCX_RNDV_SCHEME"),
        ({"UCX_ZCOPY_THRESH": "inf"}, PLAIN, Level.WARNING, "UCX_ZCOPY_THRESH"),
        ({"UCX_MEM_EVENTS": "n"}, FAST, Level.INFO, "UCX_MEM_EVENTS"),
        ({"UCX_MEM_EVENTS": "n"}, PLAIN, Level.OK, "UCX_MEM_EVENTS"),
        ({"UCX_MEMTYPE_CACHE": "n"}, FAST, Level.INFO, "UCX_MEMTYPE_CACHE"),
        ({"UCX_IB_GPU_DIRECT_RDMA": "no"}, FAST, Level.ERROR, "UCX_IB_GPU_DIRECT_RDMA"),
        ({"UCX_MAX_RMA_RAILS": "1"}, FAST, Level.WARNING, "of 2"),
        ({"UCX_LOG_LEVEL": "trace_data"}, PLAIN, Level.WARNING, "slows"),
        ({"UCX_HANDLE_ERRORS": "bt,freeze"}, PLAIN, Level.WARNING, "freeze"),
    ],
)
def test_variables_of_ucx(values: dict[str, str], hardware: Hardware, level: Level, words: str) -> None:
    assert telling(judge_ucx(values, hardware), words).level is level
