"""The benchmark of served files runs and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_prints_machine_and_cases_as_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "benchmarks/serve_files.py",
            *("--size", "12MiB", "--repeats", "1", "--clients", "2"),
            *("--directory", str(tmp_path), "--format", "json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert {"cpu", "cores", "python"} <= printed["machine"].keys()
    cases = {case["case"]: case for case in printed["cases"]}
    ways = ("raw tcp", "raw tcp, several", "grpc 32KiB", "grpc 1MiB", "grpc 4MiB", "mx", "mx over grpc")
    assert all(cases[way]["over_raw_tcp"] > 0 for way in ways)
    assert cases["raw tcp"]["over_raw_tcp"] == 1
    assert {case["bytes"] for case in cases.values() if "bytes" in case} == {12 << 20}
    peaks = [case["server_peak_bytes"] for case in printed["cases"] if "server_peak_bytes" in case]
    assert len(peaks) == 3
    assert max(peaks) < 300 << 20
