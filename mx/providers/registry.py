"""Which provider serves which name: opened when it is first asked for, closed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

    return ProviderRegistry(
        {
            ProviderName.HUGGING_FACE: hugging_face,
            ProviderName.NGC: ngc,
            ProviderName.LOCAL: local,
        }
    )
