"""The vLLM model loader ``mx``: weights from a running peer, else as vLLM loads them itself.

The class that vLLM sees; one load is a ``LoadJob``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from mx.config import load_settings
from mx.engines.server_files import ServerFiles
from mx.engines.vllm import internals
from mx.engines.vllm.job import LoadJob, withdraw_source
from mx.engines.vllm.options import LoaderOptions
from mx.errors import MxError
from mx.logs import LEVELS

log = logging.getLogger(__name__)


def folder_of(model: str, revision: str | None) -> str | None:
    """Where vLLM finds what it builds ``model`` from; None leaves it to vLLM's own ways.

    Never raises: what the server can't give, the hub may, and vLLM says best what it lacks.
    """
    settings = load_settings(scope="worker")
    if settings.worker.disable_patches:
        return None
    files = ServerFiles.of(settings)
    if files is None:
        return None
    chosen = settings.origins["logging.level"].explicit
    internals.adopt_logging(LEVELS[settings.logging.level] if chosen else None)
    try:
        folder = files.folder(model, revision)
    except MxError as error:
        log.warning("%s does not come from the server's cache: %s", model, error)
        return None
    if folder is not None:
        log.info("%s is built from %s, received from the server", model, folder)
    return None if folder is None else str(folder)


class MxModelLoader(BaseModelLoader):  # type: ignore[misc]  # vLLM is untyped here
    """Load format ``mx``."""

    def __init__(self, load_config: Any) -> None:
        super().__init__(load_config)
        self._options, rest = LoaderOptions.split(load_config.model_loader_extra_config or {})
        self._engine_loader = internals.engine_loader(load_config, extra=rest)

    def download_model(self, model_config: Any) -> None:
        """Download the checkpoint; ``load_model`` does so only when no peer serves it."""
        self._engine_loader.download_model(model_config)

    def load_weights(self, model: torch.nn.Module, model_config: Any) -> None:
        """Load the checkpoint into an existing model, which stops being a source before it changes."""
        withdraw_source(model)
        self._engine_loader.load_weights(model, model_config)

    def get_all_weights(self, model_config: Any, model: torch.nn.Module) -> Iterator[Any]:
        """Checkpoint weights for vLLM's reload in place; the model stops being a source first."""
        withdraw_source(model)
        return internals.all_weights(self._engine_loader, model_config, model)

    def load_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> torch.nn.Module:
        """Build the model, fill it, and offer it to others."""
        settings = load_settings(scope="worker")
        chosen = settings.origins["logging.level"].explicit
        internals.adopt_logging(LEVELS[settings.logging.level] if chosen else None)
        for notice in settings.notices:
            log.info("%s", notice)
        job = LoadJob(
            settings,
            vllm_config,
            model_config,
            prefix=prefix,
            options=self._options,
            engine_loader=self._engine_loader,
            device=internals.target_device(vllm_config, self.load_config),
        )
        return job.run()
