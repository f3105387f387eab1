"""Which provider serves which name: opened when it is first asked for, closed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mx.config import Settings
from mx.core.model import ProviderName
from mx.errors import PreconditionError
from mx.ports import Provider

Factory = Callable[[], Provider]


class ProviderRegistry:
    """The providers of one process. Closing it closes those that were opened."""

    def __init__(self, factories: Mapping[ProviderName, Factory]) -> None:
        self._factories = dict(factories)
        self._opened: dict[ProviderName, Provider] = {}

    @property
    def names(self) -> tuple[ProviderName, ...]:
        """What can be asked for, in the order of the enumeration."""
        return tuple(name for name in ProviderName if name in self._factories)

    def get(self, name: ProviderName) -> Provider:
        """The provider; PreconditionError when this installation has none of that name."""
        found = self._opened.get(name)
        if found is not None:
            return found
        factory = self._factories.get(name)
        if factory is None:
            raise PreconditionError(
                f"provider {name} is not available in this version of mx; available: {', '.join(self.names)}"
            )
        return self._opened.setdefault(name, factory())

    async def close(self) -> None:
        """Close every provider; the first failure is raised once all were asked."""
        opened, self._opened = self._opened, {}
        failure: Exception | None = None
        for provider in opened.values():
            try:
                await provider.close()
            except Exception as error:  # noqa: BLE001  # raised below; the others must be closed too
                failure = failure or error
        if failure is not None:
            raise failure


def open_providers(settings: Settings) -> ProviderRegistry:
    """The providers that settings describe. Nothing is imported or connected before it is needed."""

    def hugging_face() -> Provider:
        from mx.providers.huggingface import HuggingFaceProvider, read_token

        hub = settings.providers.huggingface
        return HuggingFaceProvider(
            endpoint=hub.endpoint,
            token=read_token(hub.token, hub.token_path),
            offline=hub.offline,
            verify=False,  # the cache hashes every byte on ingest: once is enough
        )

    def ngc() -> Provider:
        from mx.providers.ngc import NgcProvider
        from mx.providers.ngc_key import read_key

        catalogue = settings.providers.ngc
        return NgcProvider(
            key=read_key(catalogue.api_key, settings.ngc_config_path()),
            api_endpoint=catalogue.api_endpoint,
            auth_endpoint=catalogue.auth_endpoint,
            verify=False,
        )

    def local() -> Provider:
        from mx.providers.local import LocalProvider

        return LocalProvider(roots=settings.providers.local.roots)

    def s3() -> Provider:
        from mx.providers.aws import endpoint_address, require_region
        from mx.providers.http import PARTS
        from mx.providers.s3 import S3Provider

        store = settings.providers.s3
        endpoint = store.endpoint and endpoint_address(store.endpoint, allow_http=store.allow_http)
        return S3Provider(
            endpoint=endpoint,
            region=store.region if endpoint else require_region(store.region),
            verify=False,  # as above
            rules=replace(PARTS, window_s=store.timeout_s),
        )

    def gcs() -> Provider:
        from mx.providers.gcs import GcsProvider, Strangers
        from mx.providers.google_tokens import GoogleTokens
        from mx.providers.http import PARTS

        store = settings.providers.gcs
        # Tokens travel over TLS only; what speaks plain HTTP is an emulator, which wants none.
        secure = store.endpoint.startswith("https://")
        return GcsProvider(
            endpoint=store.endpoint,
            tokens=GoogleTokens(store.credentials_path) if secure else Strangers(),
            verify=False,  # as above
            rules=PARTS,
        )

    return ProviderRegistry(
        {
            ProviderName.HUGGING_FACE: hugging_face,
            ProviderName.NGC: ngc,
            ProviderName.S3: s3,
            ProviderName.GCS: gcs,
            ProviderName.LOCAL: local,
        }
    )
