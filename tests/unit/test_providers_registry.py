"""From settings to providers: which there are, when they are opened, what they are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mx.config import load_settings
from mx.core.model import EntryKey, Listing, ModelRef, ProviderName
from mx.errors import PermissionDeniedError, PreconditionError, SettingsError, UnavailableError
from mx.ports import Progress, Provider
from mx.providers.registry import ProviderRegistry, open_providers
from mx.testing.bucket_stores import S3Store, opened
from mx.testing.fake_hub import FakeHub
from mx.testing.fault_proxy import FaultProxy


class Closable:
    """A provider that only counts."""

    name = ProviderName.LOCAL

    def __init__(self, failure: Exception | None = None) -> None:
        self.closed = 0
        self._failure = failure

    async def resolve(self, ref: ModelRef) -> str:
        raise NotImplementedError

    async def list_files(self, key: EntryKey) -> Listing:
        raise NotImplementedError

    async def fetch(
        self, key: EntryKey, file: object, into: Path, *, offset: int, progress: Progress
    ) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed += 1
        if self._failure is not None:
            raise self._failure


async def test_a_provider_is_opened_once_and_only_when_asked_for() -> None:
    opened: list[Provider] = []

    def factory() -> Provider:
        opened.append(Closable())
        return opened[-1]

    registry = ProviderRegistry({ProviderName.LOCAL: factory, ProviderName.S3: factory})
    assert registry.names == (ProviderName.S3, ProviderName.LOCAL)
    assert opened == []
    assert registry.get(ProviderName.LOCAL) is registry.get(ProviderName.LOCAL)
    assert len(opened) == 1
    await registry.close()
    assert [provider.closed for provider in opened if isinstance(provider, Closable)] == [1]


async def test_a_provider_that_is_not_there_is_named() -> None:
    registry = ProviderRegistry({ProviderName.LOCAL: Closable})
    with pytest.raises(PreconditionError, match=r"provider ngc is not available .* available: local"):
        registry.get(ProviderName.NGC)


async def test_all_are_closed_though_one_fails() -> None:
    bad, good = Closable(UnavailableError("stuck")), Closable()
    registry = ProviderRegistry({ProviderName.NGC: lambda: bad, ProviderName.S3: lambda: good})
    registry.get(ProviderName.NGC)
    registry.get(ProviderName.S3)
    with pytest.raises(UnavailableError, match="stuck"):
        await registry.close()
    assert (bad.closed, good.closed) == (1, 1)


async def test_settings_reach_the_providers(tmp_path: Path) -> None:
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "config.json").write_bytes(b"{}")
    with FakeHub() as hub:
        hub.members = {"hf_member"}
        commit = hub.add("org/private", {"config.json": b"{}"}, private=True)
        environ = {
            "HOME": str(tmp_path),
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": "hf_member",
            "MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS": f"{tmp_path}/models,{tmp_path}/more",
        }
        registry = open_providers(load_settings(environ=environ, cwd=tmp_path))
        ref = ModelRef(ProviderName.HUGGING_FACE, "org/private")
        assert await registry.get(ref.provider).resolve(ref) == commit
        local = registry.get(ProviderName.LOCAL)
        assert await local.resolve(ModelRef(ProviderName.LOCAL, f"{tmp_path}/models/m")) == ""
        with pytest.raises(PermissionDeniedError):
            await local.resolve(ModelRef(ProviderName.LOCAL, str(tmp_path)))
        await registry.close()

        offline = open_providers(load_settings(environ=environ | {"HF_HUB_OFFLINE": "1"}, cwd=tmp_path))
        with pytest.raises(UnavailableError, match="switched off"):
            await offline.get(ref.provider).resolve(ref)
        await offline.close()


async def test_the_token_file_of_the_hubs_own_tools_is_used(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "token").write_text("hf_member\n")
    with FakeHub() as hub:
        hub.members = {"hf_member"}
        commit = hub.add("org/private", {"config.json": b"{}"}, private=True)
        environ = {"HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
        registry = open_providers(load_settings(environ=environ, cwd=tmp_path))
        ref = ModelRef(ProviderName.HUGGING_FACE, "org/private")
        assert await registry.get(ref.provider).resolve(ref) == commit
        await registry.close()


def test_opening_the_registry_imports_no_library() -> None:
    source = """
import sys
from mx.config import load_settings
from mx.providers.registry import open_providers
open_providers(load_settings(environ={"HOME": "/"}))
loaded = {name.partition(".")[0] for name in sys.modules}
sys.exit(", ".join(loaded & {"httpx2", "huggingface_hub", "grpc", "torch"}) or None)
"""
    ran = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr


async def test_settings_reach_the_providers_of_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3Store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3Store.secret_key)
    with opened("s3", tmp_path / "s3") as s3, opened("gcs", tmp_path / "gcs") as gcs:
        refs = [store.put({"config.json": b"{}"}) for store in (s3, gcs)]
        with FaultProxy(s3.endpoint) as aws, FaultProxy(gcs.endpoint) as google:
            environ = {
                "HOME": str(tmp_path),
                "AWS_REGION": "eu-west-1",
                "AWS_ENDPOINT_URL": aws.endpoint,
                "S3_ENDPOINT": "http://ignored.invalid",
                "STORAGE_EMULATOR_HOST": google.endpoint.removeprefix("http://"),
                "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "never-read.json"),
            }
            registry = open_providers(load_settings(environ=environ, cwd=tmp_path))
            for ref in refs:
                assert await registry.get(ref.provider).resolve(ref) == ""
            await registry.close()
            assert "/eu-west-1/s3/" in aws.asked("")[0].authorization
            # An emulator speaks plain HTTP: no token is looked for, let alone sent.
            assert google.asked("")[0].authorization == ""


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AWS_REGION": "evil.com/"}, "no region of AWS"),
        ({"AWS_ENDPOINT_URL": "https://me:secret@store"}, "credentials don't belong"),
        ({"AWS_ENDPOINT_URL": "ftp://store"}, "no address"),
    ],
)
async def test_settings_that_no_store_can_have_are_refused(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    registry = open_providers(load_settings(environ={"HOME": str(tmp_path)} | environ, cwd=tmp_path))
    with pytest.raises(SettingsError, match=said) as caught:
        registry.get(ProviderName.S3)
    assert "secret" not in str(caught.value)


async def test_an_endpoint_without_a_scheme_is_plain_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3Store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3Store.secret_key)
    with opened("s3", tmp_path / "s3") as store:
        ref = store.put({"config.json": b"{}"})
        environ = {"HOME": str(tmp_path), "AWS_ENDPOINT": store.endpoint.removeprefix("http://")}
        plain = open_providers(load_settings(environ=environ | {"AWS_ALLOW_HTTP": "true"}, cwd=tmp_path))
        assert await plain.get(ref.provider).resolve(ref) == ""
        await plain.close()
