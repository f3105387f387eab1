"""One load of one model on one worker.

Order of events: identity → discovery in the background → the model is built, nothing filled
in → chain (peer, server, disk) → post-processing → publish. Holds no transfer logic and touches vLLM
only through ``internals``.
"""

from __future__ import annotations

import logging
import time
import weakref
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mx.client.sync import SyncClient
from mx.config import Settings
from mx.core.source import SourceIdentity, WorkerKey, source_id
from mx.core.tensors import layout_digest
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.engines import host_state
from mx.engines.chain import ChainResult, LoadStep, explain, run_chain, summary
from mx.engines.checkpoint import weight_files
from mx.engines.cores import beside_the_engine
from mx.engines.death_watch import start_death_watch
from mx.engines.discovery import connect
from mx.engines.server_files import ServerFiles
from mx.engines.sight import Sight, check_nothing_hidden, look
from mx.engines.vllm import internals
from mx.engines.vllm.identity import WeightsForm, weights_identity
from mx.engines.vllm.options import LoaderOptions
from mx.engines.withdrawal import Withdrawal
from mx.engines.write_guard import WriteGuard, own_small_buffers
from mx.errors import MxError, PreconditionError
from mx.transfer.digests import Digester
from mx.transfer.engine import TransferEngine
from mx.transfer.outcome import Failed, Loaded, LocalTensors, Outcome, Skipped
from mx.transfer.service import ServiceClient
from mx.transfer.torch_tensors import (
    SUM64P,
    NamedTensor,
    check_coverage,
    descriptors,
    device_digester,
    list_tensors,
)

log = logging.getLogger(__name__)

_WITHDRAWAL_ATTRIBUTE = "_mx_withdrawal"
_STATE_NAME = "_mx_host_state"


def withdraw_source(model: torch.nn.Module) -> None:
    """End serving ``model`` to peers, if it is served; afterwards its memory may change."""
    withdrawal = getattr(model, _WITHDRAWAL_ATTRIBUTE, None)
    if isinstance(withdrawal, Withdrawal):
        withdrawal.now()


class LoadJob:
    """One load of one model on one worker."""

    def __init__(
        self,
        settings: Settings,
        vllm_config: Any,
        model_config: Any,
        *,
        prefix: str,
        options: LoaderOptions,
        engine_loader: Any,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._vllm_config = vllm_config
        self._model_config = model_config
        self._prefix = prefix
        self._options = options
        self._engine_loader = engine_loader
        self._device = device
        self._form = options.form or internals.form_for(device)
        self._builder = internals.ModelBuilder(vllm_config, model_config, prefix=prefix, device=device)
        self._rank = internals.shard_rank(vllm_config)
        self._server_files = ServerFiles.of(settings)
        self._fresh_state: host_state.ScalarMap = {}
        self._obstacle = ""
        self._identity: SourceIdentity | None = None
        self._client: SyncClient | ServiceClient | None = None
        self._engine: TransferEngine | None = None
        self._started_at_ms = time.time_ns() // 1_000_000

    def run(self) -> torch.nn.Module:
        with self._aside():
            self._open_engine()
        try:
            with internals.default_dtype(self._model_config):
                result = run_chain(
                    self._build(),
                    self._steps(),
                    rebuild=self._rebuild,
                )
                log.info("%s", summary(result))
                self._tell_server(result)
                model = result.model
                self._publish(model, self._finish(model, result.strategy))
        except BaseException:
            self._close()
            raise
        return model.eval()

    # --- before the model exists ------------------------------------------------------------

    def _open_engine(self) -> None:
        """Start discovery. When there is nothing to discover by, or nobody to ask, the reason is kept."""
        self._obstacle = internals.obstacle(
            self._vllm_config, self._model_config, device=self._device, form=self._form
        )
        if self._obstacle:
            return
        try:
            identity = self._identify()
            self._client = connect(self._settings)
        except MxError as error:
            self._obstacle = str(error)
            return
        self._identity = identity
        self._engine = TransferEngine(
            self._settings,
            client=self._client,
            identity=identity,
            worker_rank=self._rank,
            device_kind="cpu" if self._device.type == "cpu" else "cuda",
            device_id=self._device_id,
            digester=None if self._device.type == "cpu" else self._device_digester(),
        )
        if self._options.pull:
            self._engine.prefetch()

    def _identify(self) -> SourceIdentity:
        facts = internals.weights_facts(
            self._vllm_config,
            self._model_config,
            form=self._form,
            prefix=self._prefix,
            label=self._settings.worker.model_revision,
            name=self._options.model_name,
        )
        return weights_identity(facts)

    @property
    def _device_id(self) -> int:
        return torch.cuda.current_device() if self._device.type == "cuda" else 0

    def _device_digester(self) -> tuple[str, Digester]:
        return SUM64P, device_digester(device_type=self._device.type, device_id=self._device_id)

    def _build(self) -> torch.nn.Module:
        return self._remember(self._builder.build())

    def _rebuild(self, spoiled: torch.nn.Module) -> torch.nn.Module:
        return self._remember(self._builder.rebuild(spoiled))

    def _remember(self, model: torch.nn.Module) -> torch.nn.Module:
        self._fresh_state = self._snapshot(model)
        return model

    # --- the steps --------------------------------------------------------------------------

    def _pull(self, model: torch.nn.Module) -> Outcome:
        """Fill ``model`` from peers."""
        if self._engine is None:
            return Skipped(reason=self._obstacle)
        if not self._options.pull:
            return Skipped(reason="switched off (pull is false)")
        if internals.has_online_quantisation(model):
            return Skipped(reason="online quantisation makes the weights while a checkpoint is read")
        if self._form is WeightsForm.LOADED:
            try:
                tensors = self._list(model)
            except MxError as error:  # nothing was touched yet
                return Skipped(reason=str(error))
            return self._pull_into(model, tensors)
        return self._pull_processed(model)

    def _pull_processed(self, model: torch.nn.Module) -> Outcome:
        """Post-process the empty model, then fill it. Asks for peers first: afterwards it is spoiled."""
        assert self._client is not None
        assert self._identity is not None
        try:
            peers = self._client.find_peers(self._identity, worker_rank=self._rank)
        except MxError as error:
            return Skipped(reason=str(error))
        if not peers:
            return Skipped(reason=f"no peer holds rank {self._rank} of {self._identity.model_name}")
        try:
            internals.fill_neutral(model)
            outcome = self._pull_into(model, self._process(model))
        except MxError as error:
            return Failed(reason=str(error), mutated=True, blame="local")
        match outcome:
            case Skipped(reason=reason):
                return Failed(reason=reason, mutated=True, blame="local")
            case Failed():
                return replace(outcome, mutated=True)
            case _:
                return outcome

    def _pull_into(self, model: torch.nn.Module, tensors: tuple[NamedTensor, ...]) -> Outcome:
        assert self._engine is not None
        state = self._state_tensor(tensors, torch.zeros(host_state.CAPACITY_BYTES, dtype=torch.uint8))
        with self._aside():
            outcome = self._engine.pull(_local((*tensors, state)))
        if isinstance(outcome, Loaded):
            try:
                host_state.apply(model, host_state.unpack(bytes(state.tensor.cpu().numpy())))
            except MxError as error:
                return Failed(reason=str(error), mutated=True, blame="source")
        return outcome

    def _process(self, model: torch.nn.Module) -> tuple[NamedTensor, ...]:
        """Post-process and list. Raises PreconditionError when weights are out of sight afterwards."""
        before = self._look(model, list_tensors(model, device_type=self._device.type))
        internals.post_process(model, self._model_config, self._device)
        tensors = self._list(model)
        check_nothing_hidden(before, self._look(model, tensors))
        return tensors

    def _look(self, model: torch.nn.Module, tensors: tuple[NamedTensor, ...]) -> Sight:
        return look(model, tensors, allocated_bytes=internals.allocated_bytes(self._device))

    def _steps(self) -> list[LoadStep[torch.nn.Module]]:
        steps = [LoadStep(Strategy.PEER, self._pull)]
        if self._server_files is not None:
            steps.append(LoadStep(Strategy.SERVER, self._from_server))
        return [*steps, LoadStep(Strategy.DISK, self._from_disk)]

    def _from_server(self, model: torch.nn.Module) -> Outcome:
        """Receive the weights into this machine's cache, next to what the model was built from; load them."""
        assert self._server_files is not None
        key = self._server_files.entry_at(self._model_config.model)
        if key is None:
            return Skipped(reason=f"{self._model_config.model} did not come from the server")
        started = time.monotonic()
        try:
            if self._server_files.is_here(key):
                return Skipped(reason="the weights are on this machine already")
            self._server_files.fetch(key)
        except MxError as error:  # nothing was written into the model
            return Failed(reason=str(error), mutated=False, blame="source")
        return self._load_files(model, self._model_config, Strategy.SERVER, started)

    def _from_disk(self, model: torch.nn.Module) -> Outcome:
        """Fill ``model`` as vLLM does without mx."""
        config, key = self._model_config, None
        if self._server_files is not None:
            key = self._server_files.entry_at(config.model)
        if key is not None and not weight_files(Path(config.model)):
            # The folder holds what the server gave, and the weights are not among it.
            config = internals.hub_config(config, name=key.name, commit=key.commit)
        return self._load_files(model, config, Strategy.DISK, time.monotonic())

    def _load_files(
        self, model: torch.nn.Module, model_config: Any, strategy: Strategy, started: float
    ) -> Loaded:
        self._engine_loader.load_weights(model, model_config)
        seconds = time.monotonic() - started
        size = sum(item.size_bytes for item in list_tensors(model, device_type=self._device.type))
        name = self._identity.model_name if self._identity else str(self._model_config.model)
        return Loaded(
            report=TransferReport(
                transfer_id="",
                model_name=name,
                source_id="",
                worker_id="",
                worker_rank=self._rank,
                strategy=strategy,
                state=TransferState.DONE,
                bytes_total=size,
                bytes_done=size,
                verified=False,
                started_at_ms=self._started_at_ms,
                seconds=seconds,
            )
        )

    # --- after the weights are there --------------------------------------------------------

    def _finish(self, model: torch.nn.Module, delivered: Strategy) -> tuple[NamedTensor, ...]:
        """Post-process where that is still to do; the tensors to offer, or none with the reason logged."""
        internals.release_cached_memory()
        reason = self._publish_obstacle(model)
        offered: tuple[NamedTensor, ...] = ()
        if self._form is WeightsForm.PROCESSED:
            processed = delivered is Strategy.PEER
            if reason and not processed:
                internals.post_process(model, self._model_config, self._device)
            elif not reason:
                offered, reason = self._offer_processed(model, processed=processed)
        elif reason:
            internals.post_process(model, self._model_config, self._device)
        else:
            offered, reason = self._offer_loaded(model)
        if reason and self._engine is not None:
            log.warning("this worker does not serve its weights to peers: %s", reason)
        return offered

    def _offer_processed(
        self, model: torch.nn.Module, *, processed: bool
    ) -> tuple[tuple[NamedTensor, ...], str]:
        try:
            tensors = self._list(model) if processed else self._process(model)
            return own_small_buffers(self._with_state(model, tensors)), ""
        except PreconditionError as error:  # raised by our checks only, after post-processing
            return (), str(error)

    def _offer_loaded(self, model: torch.nn.Module) -> tuple[tuple[NamedTensor, ...], str]:
        """List the loaded weights, and keep them as they are while post-processing goes on."""
        try:
            offered = own_small_buffers(self._with_state(model, self._list(model)))
        except MxError as error:
            internals.post_process(model, self._model_config, self._device)
            return (), str(error)
        guard = WriteGuard(offered)
        with guard:
            internals.post_process(model, self._model_config, self._device)
        if guard.copied:
            log.debug("post-processing writes in place", extra={"fields": {"copied": len(guard.copied)}})
        changed = guard.changed()
        if changed:
            return (), f"post-processing wrote into {len(changed)} loaded tensors, first {changed[0]}"
        return guard.tensors(), ""

    def _publish_obstacle(self, model: torch.nn.Module) -> str:
        if self._engine is None:
            return self._obstacle
        if not self._options.publish:
            return "switched off (publish is false)"
        if internals.has_online_quantisation(model):
            return "online quantisation makes the weights while a checkpoint is read"
        return internals.publish_obstacle(self._vllm_config, self._model_config)

    def _with_state(
        self, model: torch.nn.Module, tensors: tuple[NamedTensor, ...]
    ) -> tuple[NamedTensor, ...]:
        now = self._snapshot(model)
        blob = host_state.pack(host_state.changed(self._fresh_state, now))
        return (*tensors, self._state_tensor(tensors, torch.frombuffer(bytearray(blob), dtype=torch.uint8)))

    def _tell_server(self, result: ChainResult[torch.nn.Module]) -> None:
        if self._engine is not None and result.strategy is not Strategy.PEER:
            report = result.report
            self._engine.report_files(
                result.strategy,
                bytes_total=report.bytes_total,
                seconds=report.seconds,
                reason=explain(result.passed),
            )

    def _publish(self, model: torch.nn.Module, offered: tuple[NamedTensor, ...]) -> None:
        if self._engine is None or not offered:
            self._close()
            return
        try:
            with self._aside():
                self._engine.publish(_local(offered))
        except MxError as error:  # the engine has its weights: serving them to others is a favour
            log.warning("this worker does not serve its weights to peers: %s", error)
            self._close()
            return
        assert self._identity is not None
        if isinstance(self._client, SyncClient):  # a Service notices by itself
            start_death_watch(
                self._settings, WorkerKey(source_id(self._identity), self._engine.worker_id, self._rank)
            )
        withdrawal = Withdrawal(self._close)
        # The source ends with the model, also when the process lives on.
        weakref.finalize(model, withdrawal.now).atexit = False
        setattr(model, _WITHDRAWAL_ATTRIBUTE, withdrawal)

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._client is not None:
            self._client.close()

    def _snapshot(self, model: torch.nn.Module) -> host_state.ScalarMap:
        return host_state.snapshot(
            model, device_type=self._device.type, skip_packages=internals.CONFIG_PACKAGES
        )

    # --- shared -----------------------------------------------------------------------------

    def _aside(self) -> AbstractContextManager[None]:
        """Around what starts threads. Beside a device the engine's own choice of cores is right."""
        return beside_the_engine() if self._device.type == "cpu" else nullcontext()

    def _list(self, model: torch.nn.Module) -> tuple[NamedTensor, ...]:
        tensors = list_tensors(model, device_type=self._device.type)
        check_coverage(model, tensors, device_type=self._device.type)
        return tensors

    def _state_tensor(self, tensors: tuple[NamedTensor, ...], blob: torch.Tensor) -> NamedTensor:
        """The host state as one more tensor. Its name holds the layout, so that only equal lists match:
        a source with a tensor that the target lacks has weights the target would not get."""
        name = f"{_STATE_NAME}_{layout_digest(descriptors(tensors))[:16]}"
        return NamedTensor(name, blob.to(self._device), is_buffer=False)


def _local(tensors: tuple[NamedTensor, ...]) -> LocalTensors:
    return LocalTensors(descriptors=descriptors(tensors), keepalive=tensors)
