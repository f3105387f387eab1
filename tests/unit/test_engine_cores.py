"""mx's threads run where the engine does not pin its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os, threading
from mx.engines.cores import beside_the_engine

given = os.sched_getaffinity(0)
pinned = {min(given)}
os.sched_setaffinity(0, pinned)

def cores_of_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    return found[0]

assert cores_of_a_thread() == pinned, "threads inherit the pinning"
try:
    with beside_the_engine():
        assert cores_of_a_thread() == given
        raise KeyError("leaving by an error")
except KeyError:
    pass
assert os.sched_getaffinity(0) == pinned, "the engine's own thread is where the engine put it"
assert cores_of_a_thread() == pinned
print("done")
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a second core")
def test_threads_leave_the_cores_that_the_engine_is_pinned_to() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "done\n", done.stderr


def test_a_process_that_is_not_pinned_stays_as_it_is() -> None:
    code = (
        "import os\nfrom mx.engines.cores import beside_the_engine\nbefore = os.sched_getaffinity(0)\n"
        "with beside_the_engine():\n    assert os.sched_getaffinity(0) == before\nprint('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "done\n", done.stderr
