"""The benchmark of the control plane runs and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_prints_machine_and_cases_as_json() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "benchmarks/control_plane.py",
            *("--workers", "200", "--samples", "20", "--format", "json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    printed = json.loads(done.stdout)
    assert {"cpu", "cores", "python", "sqlite"} <= printed["machine"].keys()
    assert {case["transport"] for case in printed["cases"]} == {"direct", "grpc"}
    listed = [case["workers"] for case in printed["cases"] if case["case"] == "list by identity"]
    assert listed == [100, 200, 200] * 2
    assert all(case["per_second"] > 0 for case in printed["cases"])


def test_a_size_that_makes_no_whole_sources_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/control_plane.py", "--workers", "15"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "multiple of 10" in done.stderr
