"""A process that does one deed to a cache and is killed before its n-th change; forks one per order.

Reads lines ``<deed> <root> <n>`` and answers each with the way the child ended and its count of
changes. It forks because starting an interpreter for each of some hundred kills would take minutes;
it has no threads, so that forking is safe.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mx.providers.cache import DiskCache, open_cache
from mx.testing.cache_samples import OTHER_COMMIT, SampleModel, bucket_model, hub_model

FIRST = hub_model()
SECOND = hub_model(commit=OTHER_COMMIT, config__json=b'{"changed": true}')
META = hub_model(weights=False)
BUCKET = bucket_model()
NEW_BUCKET = bucket_model(etag="v2", config__json=b'{"changed": true}')
BAD = "model-00001.safetensors"


def download(model: SampleModel, revision: str | None = None) -> Callable[[DiskCache], None]:
    return lambda cache: _drop(model.download(cache, revision=revision))


def remove(model: SampleModel) -> Callable[[DiskCache], None]:
    return lambda cache: _drop(cache.remove(model.key))


def _drop(_value: object) -> None: ...


def take_over(cache: DiskCache) -> None:
    """Go on where a living process is, whose parts must be copied."""
    staging = cache.begin(FIRST.listing)
    FIRST.fetch(staging)
    staging.publish(revision=None, fence=lambda: True)


def half(cache: DiskCache) -> None:
    staging = cache.begin(FIRST.listing)
    for missing in staging.missing:
        data = FIRST.kept[missing.file.path]
        staging.path_for(missing.file).write_bytes(data[: len(data) // 2])


def repair(cache: DiskCache) -> None:
    if cache.entry(FIRST.key) is not None:
        cache.condemn(FIRST.key, [BAD])
    FIRST.download(cache)


def clean(cache: DiskCache) -> None:
    cache.clean_abandoned(older_than_s=0)


# What was there before (done to the end), and what is killed.
DEEDS: dict[str, tuple[tuple[Callable[[DiskCache], None], ...], Callable[[DiskCache], None]]] = {
    "first-download": ((), download(FIRST)),
    "second-revision": ((download(FIRST),), download(SECOND, "v2")),
    "weights-after-metadata": ((download(META),), download(FIRST)),
    "bucket-download": ((), download(BUCKET)),
    "bucket-changed": ((download(BUCKET),), download(NEW_BUCKET)),
    "resume": ((half,), take_over),
    "repair": ((download(FIRST),), repair),
    "remove-last": ((download(FIRST),), remove(FIRST)),
    "remove-shared": ((download(FIRST), download(SECOND, "v2")), remove(SECOND)),
    "remove-weights": ((download(META), download(FIRST)), remove(FIRST)),
    "remove-bucket": ((download(BUCKET),), remove(BUCKET)),
    "clean": ((half,), clean),
}


def carry_out(deed: str, root: Path, kill_at: int) -> int:
    """How many changes the deed made; never returns when it is killed."""
    count = 0

    def step(_name: str) -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    DEEDS[deed][1](open_cache(root, step=step))
    return count


def main() -> None:
    for line in sys.stdin:
        deed, kill_at, root = line.rstrip("\n").split(" ", 2)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, str(carry_out(deed, Path(root), int(kill_at))).encode())
            os._exit(0)
        os.close(writer)
        said = os.read(reader, 100).decode()
        os.close(reader)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), said or 0, flush=True)


if __name__ == "__main__":
    main()
