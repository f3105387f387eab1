"""A model out of a bucket: mx beside obstore and the official SDKs, from a real store on this machine.

    python benchmarks/object_stores.py [--repeats 5] [--file-mib 96] [--files 4] [--format table|json]

Each download is a process of its own and writes files to a RAM disk where there is one; clients take
turns, so that a busy machine is busy for all of them. ``cpu_s_per_gib`` is processor time of the
client alone: the store shares the cores, so on few of them it binds the rate before a client does.
Clients that are not installed (pip install obstore boto3 google-cloud-storage) are left out.

JSON: {machine, cases: [{case, store, client, files, file_mib, n, mib_per_s, mib_per_s_min, mib_per_s_max,
cpu_s_per_gib, cpu_s_per_gib_min, cpu_s_per_gib_max, peak_mib}]}. Cases:

* ``model``     several large files, as checkpoints are, from SeaweedFS or fake-gcs-server
* ``one file``  one file of the same size in all
* ``bounded``   one file from a store that bounds each connection to 60 MB/s, as S3 does
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pull import machine

from mx.core.model import ModelRef
from mx.testing.bucket_stores import BUCKET, S3Store, Store, opened
from mx.testing.fault_proxy import FaultProxy

BOUND_BYTES_PER_S = 60e6
AT_ONCE = 8  # files, for every client


@dataclass(frozen=True, slots=True)
class Task:
    """What a child process downloads, and with what."""

    client: str
    endpoint: str
    folder: str
    paths: tuple[str, ...]
    into: str


@dataclass(frozen=True, slots=True)
class Case:
    case: str
    store: str
    client: str
    files: int
    file_mib: int
    n: int
    mib_per_s: float
    mib_per_s_min: float
    mib_per_s_max: float
    cpu_s_per_gib: float
    cpu_s_per_gib_min: float
    cpu_s_per_gib_max: float
    peak_mib: float


# Clients, each in a process of its own. What importing and setting up costs, a server pays once and not
# for each model: only what ``Go`` does is measured.
Go = Callable[[], None]


def with_mx(task: Task, scheme: str, **changes: Any) -> Go:
    from mx.core.model import EntryKey, ProviderName
    from mx.providers.aws import Keys
    from mx.providers.gcs import GcsProvider
    from mx.providers.http import PARTS
    from mx.providers.s3 import S3Provider

    rules = replace(PARTS, **changes)

    async def run() -> None:
        # The cache verifies on ingest, whatever client brings the bytes; so nobody does here.
        if scheme == "s3":
            keys = Keys(S3Store.access_key, S3Store.secret_key)
            provider: Any = S3Provider(
                endpoint=task.endpoint, find_keys=lambda: keys, verify=False, rules=rules
            )
        else:
            provider = GcsProvider(endpoint=task.endpoint, verify=False, rules=rules)
        key = EntryKey(ProviderName(scheme), f"{scheme}://{BUCKET}/{task.folder}", "")
        listing = await provider.list_files(key)
        slots = asyncio.Semaphore(AT_ONCE)

        async def fetch(file: Any) -> None:
            async with slots:
                into = Path(task.into) / file.path
                await provider.fetch(key, file, into, offset=0, progress=lambda _: None)

        async with asyncio.TaskGroup() as tasks:
            for file in listing.files:
                tasks.create_task(fetch(file))
        await provider.close()

    return lambda: asyncio.run(run())


def obstore_of(task: Task, scheme: str) -> Any:
    from obstore.store import GCSStore
    from obstore.store import S3Store as Obstore

    if scheme == "s3":
        return Obstore(
            BUCKET,
            endpoint=task.endpoint,
            access_key_id=S3Store.access_key,
            secret_access_key=S3Store.secret_key,
            region="us-east-1",
            client_options={"allow_http": True},
        )
    return GCSStore(BUCKET, config={"base_url": task.endpoint, "skip_signature": True})


def with_obstore(task: Task, scheme: str) -> Go:
    store = obstore_of(task, scheme)

    async def fetch(path: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            answer = await store.get_async(f"{task.folder}/{path}")
            with Path(task.into, path).open("wb") as into:  # noqa: ASYNC230  # the cost of a create
                async for block in answer.stream(min_chunk_size=4 << 20):
                    await asyncio.to_thread(into.write, block)

    async def run() -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for path in task.paths:
                tasks.create_task(fetch(path, slots))

    return lambda: asyncio.run(run())


def with_httpx2(task: Task, scheme: str) -> Go:
    """One stream for each file through the client that mx reads answers with no longer."""
    import httpx2
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signs = S3SigV4Auth(Credentials(S3Store.access_key, S3Store.secret_key), "s3", "us-east-1")

    async def fetch(client: httpx2.AsyncClient, path: str, slots: asyncio.Semaphore) -> None:
        request = AWSRequest("GET", f"{task.endpoint}/{BUCKET}/{task.folder}/{path}")
        signs.add_auth(request)
        async with slots, client.stream("GET", request.url, headers=dict(request.headers)) as answer:
            answer.raise_for_status()
            with Path(task.into, path).open("wb") as into:  # noqa: ASYNC230  # the cost of a create
                held: list[bytes] = []
                async for block in answer.aiter_raw():
                    held.append(block)
                    if len(held) == 64:
                        await asyncio.to_thread(into.writelines, held)
                        held = []
                into.writelines(held)

    async def run() -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        async with (
            httpx2.AsyncClient(headers={"Accept-Encoding": "identity"}) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for path in task.paths:
                tasks.create_task(fetch(client, path, slots))

    return lambda: asyncio.run(run())


def with_boto3(task: Task, scheme: str) -> Go:
    import boto3
    from boto3.s3.transfer import TransferConfig

    client = boto3.client(
        "s3",
        endpoint_url=task.endpoint,
        aws_access_key_id=S3Store.access_key,
        aws_secret_access_key=S3Store.secret_key,
        region_name="us-east-1",
    )
    config = TransferConfig(max_concurrency=4)

    def fetch(path: str) -> None:
        client.download_file(BUCKET, f"{task.folder}/{path}", f"{task.into}/{path}", Config=config)

    return lambda: in_threads(fetch, task.paths)


def with_google(task: Task, scheme: str) -> Go:
    os.environ["STORAGE_EMULATOR_HOST"] = task.endpoint
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    bucket = storage.Client(project="p", credentials=AnonymousCredentials()).bucket(BUCKET)

    def fetch(path: str) -> None:
        bucket.blob(f"{task.folder}/{path}").download_to_filename(f"{task.into}/{path}", checksum=None)

    return lambda: in_threads(fetch, task.paths)


def in_threads(fetch: Callable[[str], None], paths: Sequence[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(fetch, paths))


CLIENTS: dict[str, tuple[str, Callable[[Task, str], Go]]] = {
    "mx": ("", with_mx),
    "mx, one range at a time": ("", lambda task, scheme: with_mx(task, scheme, ahead=1)),
    "obstore": ("obstore", with_obstore),
    "httpx2": ("", with_httpx2),
    "boto3": ("boto3", with_boto3),
    "google-cloud-storage": ("google.cloud.storage", with_google),
}
FOR_STORE = {
    "s3": ("mx", "mx, one range at a time", "obstore", "httpx2", "boto3"),
    "gcs": ("mx", "obstore", "google-cloud-storage"),
}


def installed(client: str) -> bool:
    module = CLIENTS[client][0]
    try:
        return not module or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def run_child(text: str) -> int:
    told = json.loads(text)
    scheme = told.pop("scheme")
    task = Task(**told)
    go = CLIENTS[task.client][1](task, scheme)
    begin_s, begin_cpu_s = time.perf_counter(), cpu_s()
    go()
    result = {"seconds": time.perf_counter() - begin_s, "cpu_s": cpu_s() - begin_cpu_s}
    # Not getrusage's: that one has the parent's memory in it.
    status = Path("/proc/self/status").read_text()
    result["peak_mib"] = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps(result))
    return 0


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Rounds


def download(task: Task, scheme: str, sizes: int) -> dict[str, float]:
    ran = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(asdict(task) | {"scheme": scheme})],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"{task.client} ended with {ran.returncode}: {ran.stderr[-2000:]}")
    for path in task.paths:
        found = Path(task.into) / path
        if found.stat().st_size != sizes:
            raise RuntimeError(f"{task.client} brought {found.stat().st_size} bytes of {path}")
        found.unlink()
    result: dict[str, float] = json.loads(ran.stdout)
    return result


def measure(
    name: str,
    store: Store,
    endpoint: str,
    folder: str,
    clients: Sequence[str],
    *,
    files: int,
    file_bytes: int,
    repeats: int,
    room: Path,
    show: Callable[[str], None],
) -> list[Case]:
    paths = tuple(f"{number}.safetensors" for number in range(files))
    scheme = store.kind.value
    samples: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for turn in range(repeats + 1):  # the first one warms the store up
        for client in clients:
            with tempfile.TemporaryDirectory(dir=room) as into:
                sample = download(Task(client, endpoint, folder, paths, into), scheme, file_bytes)
            if turn:
                samples[client].append(sample)
        show(f"{name}, {scheme}: round {turn} of {repeats}")
    cases = [case_of(name, scheme, client, files, file_bytes, taken) for client, taken in samples.items()]
    for one in cases:
        show(line_of(one))
    return cases


def case_of(
    name: str, scheme: str, client: str, files: int, file_bytes: int, taken: list[dict[str, float]]
) -> Case:
    total = files * file_bytes
    rates = sorted(total / (1 << 20) / one["seconds"] for one in taken)
    costs = sorted(one["cpu_s"] / (total / (1 << 30)) for one in taken)
    return Case(
        case=name,
        store=scheme,
        client=client,
        files=files,
        file_mib=file_bytes >> 20,
        n=len(taken),
        mib_per_s=round(statistics.median(rates), 1),
        mib_per_s_min=round(rates[0], 1),
        mib_per_s_max=round(rates[-1], 1),
        cpu_s_per_gib=round(statistics.median(costs), 2),
        cpu_s_per_gib_min=round(costs[0], 2),
        cpu_s_per_gib_max=round(costs[-1], 2),
        peak_mib=round(max(one["peak_mib"] for one in taken)),
    )


@contextmanager
def room_for(size_bytes: int) -> Iterator[Path]:
    shared = Path("/dev/shm")
    fits = shared.is_dir() and os.statvfs(shared).f_bavail * os.statvfs(shared).f_frsize > size_bytes
    with tempfile.TemporaryDirectory(prefix="mx-bench-", dir=shared if fits else None) as room:
        yield Path(room)


def put(store: Store, files: int, file_bytes: int, folder: str) -> str:
    ref: ModelRef | None = None
    for number in range(files):
        ref = store.put({f"{number}.safetensors": os.urandom(file_bytes)}, folder=folder)
    assert ref is not None
    return folder


def run_all(options: argparse.Namespace, show: Callable[[str], None]) -> list[Case]:
    file_bytes = options.file_mib << 20
    shapes = {
        "model": (options.files, file_bytes),
        "one file": (1, options.files * file_bytes),
        "bounded": (1, 2 * file_bytes),
    }
    cases: list[Case] = []
    with room_for(6 * options.files * file_bytes) as room:
        for kind in options.store or ("s3", "gcs"):
            clients = [client for client in FOR_STORE[kind] if installed(client)]
            with (
                opened(kind, room / kind) as store,
                FaultProxy(store.endpoint, bytes_per_s=BOUND_BYTES_PER_S) as proxy,
            ):
                for name in options.case or shapes:
                    files, size = shapes[name]
                    if name == "bounded" and kind == "gcs":
                        continue
                    folder = put(store, files, size, name.replace(" ", "-"))
                    cases += measure(
                        name,
                        store,
                        proxy.endpoint if name == "bounded" else store.endpoint,
                        folder,
                        clients,
                        files=files,
                        file_bytes=size,
                        repeats=options.repeats,
                        room=room,
                        show=show,
                    )
    return cases


def line_of(one: Case) -> str:
    rate = f"{one.mib_per_s:.0f} ({one.mib_per_s_min:.0f}–{one.mib_per_s_max:.0f})"
    cost = f"{one.cpu_s_per_gib:.2f} ({one.cpu_s_per_gib_min:.2f}–{one.cpu_s_per_gib_max:.2f})"
    return f"{one.case:<10}{one.store:<6}{one.client:<26}{one.n:>3}{rate:>20}{cost:>22}{one.peak_mib:>10.0f}"


def print_table(cases: Sequence[Case]) -> None:
    print(f"{'case':<10}{'store':<6}{'client':<26}{'n':>3}{'MiB/s':>20}{'cpu s/GiB':>22}{'peak MiB':>10}")
    for one in cases:
        print(line_of(one))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--file-mib", type=int, default=96)
    parser.add_argument("--store", choices=("s3", "gcs"), action="append", help="only this one")
    parser.add_argument(
        "--case", choices=("model", "one file", "bounded"), action="append", help="only this one"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse()
    if options.child is not None:
        return run_child(options.child)
    cases = run_all(options, lambda line: print(line, file=sys.stderr, flush=True))
    if options.format == "json":
        print(json.dumps({"machine": machine(), "cases": [asdict(case) for case in cases]}, indent=2))
    else:
        print_table(cases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
