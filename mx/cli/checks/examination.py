"""All checks, each within its deadline: what hangs or breaks costs its own lines and no others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from mx.cli.checks.cache import look_at_caches
from mx.cli.checks.devices import hardware_of, read_devices
from mx.cli.checks.process import read_limits, read_packages
from mx.cli.checks.secrets import secret_files
from mx.cli.checks.server import ask_server
from mx.cli.checks.site import Site
from mx.cli.checks.transfer import try_nixl
from mx.config import Settings
from mx.core.doctor.cache import judge_cache
from mx.core.doctor.finding import CheckName, Finding, error, info, warning
from mx.core.doctor.host import (
    Devices,
    judge_devices,
    judge_limits,
    judge_python,
    judge_vllm,
)
from mx.core.doctor.server import judge_server
from mx.core.doctor.settings import judge_settings
from mx.core.doctor.transfer import judge_nixl, judge_ucx

Work = Callable[[], list[Finding]]

_DEADLINE_S = 10.0
# Starting NIXL takes a second; on a busy machine with many cards ten.
_NIXL_S = 40.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What one check found, and how long it took."""

    name: CheckName
    seconds: float
    findings: tuple[Finding, ...]


def examine(site: Site, *, only: Collection[CheckName] = tuple(CheckName)) -> list[Checked]:
    """The checks of ``only`` in their order, side by side."""
    devices = Devices()

    def look_at_devices() -> list[Finding]:
        nonlocal devices
        devices = read_devices(site)
        return judge_devices(devices)

    # The others ask what hardware there is.
    first = together({CheckName.DEVICES: (look_at_devices, _DEADLINE_S)})
    loaded, scopes = site.scopes()
    packages = read_packages(site, loaded.get("worker"))
    hardware = hardware_of(devices)
    rest: dict[CheckName, tuple[Work, float]] = {
        CheckName.SETTINGS: (lambda: judge_settings(scopes, secret_files(loaded)), _DEADLINE_S),
        CheckName.SERVER: (lambda: _server(site, loaded.get("client")), _DEADLINE_S),
        CheckName.CACHE: (lambda: _cache(site, loaded), _DEADLINE_S),
        CheckName.LIMITS: (lambda: judge_limits(read_limits(site), rdma=hardware.rdma), _DEADLINE_S),
        CheckName.NIXL: (
            lambda: judge_nixl(
                try_nixl(site, deadline_s=_NIXL_S - 5), hardware, engine=bool(packages.version_of("vllm"))
            ),
            _NIXL_S,
        ),
        CheckName.UCX: (lambda: judge_ucx(site.environ, hardware), _DEADLINE_S),
        CheckName.VLLM: (lambda: judge_vllm(packages), _DEADLINE_S),
        CheckName.PYTHON: (lambda: judge_python(packages), _DEADLINE_S),
    }
    done = first | together({name: work for name, work in rest.items() if name in only})
    return [done[name] for name in CheckName if name in only]


def _server(site: Site, settings: Settings | None) -> list[Finding]:
    if settings is None:
        return [info("not asked: the settings are wrong")]
    return judge_server(ask_server(site, settings))


def _cache(site: Site, loaded: Mapping[str, Settings]) -> list[Finding]:
    if not loaded:
        return [info("not looked at: the settings are wrong")]
    return [finding for facts in look_at_caches(site, loaded) for finding in judge_cache(facts)]


def together(checks: Mapping[CheckName, tuple[Work, float]]) -> dict[CheckName, Checked]:
    """Run them in threads of their own, which a process that ends does not wait for."""
    begin = time.monotonic()
    done: dict[CheckName, Checked] = {}

    def run(name: CheckName, work: Work) -> None:
        findings = _contained(name, work)
        done[name] = Checked(name, time.monotonic() - begin, tuple(findings))

    threads = {
        name: threading.Thread(target=run, args=(name, work), name=f"check {name}", daemon=True)
        for name, (work, _) in checks.items()
    }
    for thread in threads.values():
        thread.start()
    for name, (_, deadline_s) in checks.items():
        threads[name].join(max(0.0, begin + deadline_s - time.monotonic()))
    finished = dict(done)
    for name, (_, deadline_s) in checks.items():
        if name not in finished:
            finished[name] = Checked(name, time.monotonic() - begin, (_hangs(deadline_s),))
    return finished


def _hangs(deadline_s: float) -> Finding:
    return error(
        f"did not end within {deadline_s:g} s",
        remedy="something below it hangs: a file system, a driver, a name server",
    )


def _contained(name: CheckName, work: Work) -> list[Finding]:
    try:
        return work()
    except Exception as failed:  # noqa: BLE001  # one check must not take the others with it; told as its finding
        return [
            warning(
                f"could not be looked at: {type(failed).__name__}: {failed}",
                remedy=f"please report it; mx doctor --only {name} shows it alone",
            )
        ]
