"""mx's verified pull beside the published client's, which verifies nothing, on this machine.

    python benchmarks/published_pull.py [--size 2GiB] [--repeats 7] [--format table|json] [--python PATH]

Each side has a source process of its own and reads the same sizes, 400 mixed tensors, against one mx
server. In turn, `repeats` times:

    published    modelexpress 0.7.0 from its own environment (scripts/setup-interop.sh), its own code from
                 listing the sources to releasing the peer: list, metadata, manifest, registration, NIXL
                 handshake, read. Once as it comes (p2p metadata) and once with central metadata.
    mx           from discovery to the last verified segment, as in benchmarks/pull.py

The creation of the NIXL agent is left out on both sides, memory is touched before on both, and the first
pull of each is thrown away. NIXL agents of the published package spin and would take a core from mx, so
its processes are stopped (SIGSTOP) while it is mx's turn; mx's own are idle during the other's.
Ratios are taken within a repeat; the median is shown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pull import allocate, hold, machine, mixed_sizes, pull, server

from mx.core.units import format_size, parse_size
from mx.transfer.outcome import Loaded

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from interop_support import PublishedWorker, ready_rows, until  # noqa: E402

CASES = (("mixed-400, p2p metadata", True), ("mixed-400, central metadata", False))
# Filling and comparing GiBs takes a while.
ANSWER_S = 600.0


class PublishedPair:
    """A source and a target of the published package; stopped unless it is their turn."""

    def __init__(
        self, python: str, endpoint: str, folder: Path, sizes: list[int], *, p2p_metadata: bool
    ) -> None:
        self._tensors = [
            (f"layers.{index}.weight", "torch.bfloat16", size) for index, size in enumerate(sizes)
        ]
        self._start = lambda worker_id, seed: PublishedWorker(
            python, endpoint, worker_id=worker_id, tensors=self._tensors, seed=seed,
            p2p_metadata=p2p_metadata, log=folder / f"{worker_id}.log",
        )  # fmt: skip
        self._source, self._target = self._start("aaaa0001", 1), self._start("bbbb0001", 0)
        self._ask(self._source, "publish")
        until(lambda: bool(ready_rows(endpoint)), what="the published source is READY", within_s=60)
        self._signal(signal.SIGSTOP)

    def pull(self) -> float:
        """Seconds of one pull."""
        self._signal(signal.SIGCONT)
        try:
            self._ask(self._target, "agent")
            seconds = float(self._ask(self._target, "pull")["seconds"])
            self._ask(self._target, "leave")
        finally:
            self._signal(signal.SIGSTOP)
        return seconds

    def close(self) -> None:
        """End both, after a look whether the target holds what the source does."""
        self._signal(signal.SIGCONT)
        equal = self._ask(self._source, "digest") == self._ask(self._target, "digest")
        self._target.close()
        self._source.close()
        if not equal:
            raise SystemExit("the published client's target does not hold the bytes of its source")

    def _ask(self, worker: PublishedWorker, command: str) -> dict[str, Any]:
        answer = worker.ask(command, within_s=ANSWER_S)
        if "error" in answer:
            raise SystemExit(f"the published client failed: {answer['error']}\n{worker.log.read_text()}")
        return answer

    def _signal(self, number: signal.Signals) -> None:
        for worker in (self._source, self._target):
            os.kill(worker.process.pid, number)


@contextmanager
def mx_pair(endpoint: str, sizes: list[int]) -> Iterator[Callable[[], tuple[float, Loaded]]]:
    """A source of mx in a process of its own, and what pulls from it into memory of this one."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    source = context.Process(target=hold, args=(there, endpoint, "published", sizes), daemon=True)
    source.start()
    if not here.recv()[0]:
        raise SystemExit("mx's source could not publish")
    memory = allocate(sizes)
    try:
        yield lambda: pull(endpoint, "published", memory, verify=True)
    finally:
        here.send("stop")
        source.join(20)


def measure(python: str, endpoint: str, sizes: list[int], repeats: int) -> list[dict[str, object]]:
    cases = []
    with mx_pair(endpoint, sizes) as pull_mx, tempfile.TemporaryDirectory() as folder:
        pull_mx()
        for case, p2p_metadata in CASES:
            published = PublishedPair(python, endpoint, Path(folder), sizes, p2p_metadata=p2p_metadata)
            published.pull()
            rows = [(published.pull(), pull_mx()) for _ in range(repeats)]
            published.close()
            cases.append(summarise(case, sizes, rows))
    return cases


def summarise(
    case: str, sizes: list[int], rows: list[tuple[float, tuple[float, Loaded]]]
) -> dict[str, object]:
    total = sum(sizes)
    theirs, ours = [published for published, _ in rows], [seconds for _, (seconds, _) in rows]
    stages = [loaded.report.stages_s for _, (_, loaded) in rows]
    ratios = [published / mx for published, mx in zip(theirs, ours, strict=True)]
    return {
        "case": case,
        "bytes": total,
        "tensors": len(sizes),
        "n": len(rows),
        "published_s": statistics.median(theirs),
        "published_gb_s": total / statistics.median(theirs) / 1e9,
        "published_gb_s_spread": [total / max(theirs) / 1e9, total / min(theirs) / 1e9],
        "published_verified": False,
        "mx_s": statistics.median(ours),
        "mx_gb_s": total / statistics.median(ours) / 1e9,
        "mx_gb_s_spread": [total / max(ours) / 1e9, total / min(ours) / 1e9],
        "mx_verified": True,
        "mx_stages_s": {name: statistics.median(row[name] for row in stages) for name in stages[0]},
        "mx_over_published": statistics.median(ratios),
        "mx_over_published_spread": [min(ratios), max(ratios)],
    }


def show(cases: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="mx, verified, beside the published client 0.7.0, unverified")
    for column in ("case", "n", "published GB/s (min–max)", "mx GB/s (min–max)", "mx/published (min–max)"):
        table.add_column(column)
    for case in cases:
        low, high = case["published_gb_s_spread"]
        mx_low, mx_high = case["mx_gb_s_spread"]
        least, most = case["mx_over_published_spread"]
        table.add_row(
            f"{case['case']} ({format_size(case['bytes'])})",
            str(case["n"]),
            f"{case['published_gb_s']:.1f} ({low:.1f}–{high:.1f})",
            f"{case['mx_gb_s']:.1f} ({mx_low:.1f}–{mx_high:.1f})",
            f"{case['mx_over_published']:.2f} ({least:.2f}–{most:.2f})",
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument(
        "--python",
        default=os.environ.get("MX_INTEROP_PYTHON") or str(ROOT / ".venv-interop" / "bin" / "python"),
        help="interpreter of the published package's environment",
    )
    arguments = parser.parse_args()
    if not Path(arguments.python).exists():
        raise SystemExit(f"{arguments.python} does not exist: scripts/setup-interop.sh makes it")
    with server() as endpoint:
        cases = measure(
            arguments.python, endpoint, mixed_sizes(parse_size(arguments.size)), arguments.repeats
        )
    if arguments.format == "json":
        print(json.dumps({"machine": machine(), "cases": cases}, indent=2))
    else:
        show(cases)


if __name__ == "__main__":
    main()
