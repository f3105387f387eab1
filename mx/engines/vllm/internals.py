"""The only file that touches what vLLM does not promise to keep.

``SYMBOLS`` names every vLLM symbol used here; a test imports each, so that a new vLLM release
breaks there, by name, and not in a worker. Written against 0.32; a symbol that neighbours lack
is looked up when it is needed and has a stated substitute.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import gc
import importlib
import logging
import platform as host_platform
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from vllm import __version__ as vllm_version
from vllm.config.load import LoadConfig
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor import model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import initialize_model, process_weights_after_loading
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_default_torch_dtype

from mx.engines.checkpoint import name_of, which_weights
from mx.engines.vllm.identity import ONE, Axis, WeightsFacts, WeightsForm, shard_index
from mx.errors import ConflictError

SYMBOLS: Final = (
    "vllm:__version__",
    "vllm.config.load:LoadConfig",
    "vllm.distributed.parallel_state:get_dp_group",
    "vllm.distributed.parallel_state:get_pp_group",
    "vllm.distributed.parallel_state:get_tp_group",
    "vllm.engine.arg_utils:EngineArgs",
    "vllm.model_executor.model_loader:_LOAD_FORMAT_TO_MODEL_LOADER",
    "vllm.model_executor.model_loader:register_model_loader",
    "vllm.model_executor.model_loader.base_loader:BaseModelLoader",
    "vllm.model_executor.model_loader.default_loader:DefaultModelLoader",
    "vllm.model_executor.model_loader.utils:initialize_model",
    "vllm.model_executor.model_loader.utils:process_weights_after_loading",
    "vllm.platforms:current_platform",
    "vllm.utils.torch_utils:set_default_torch_dtype",
)
_ASKS_FIRST: Final = "_mx_asks_first"
_ONEDNN: Final = "vllm._custom_ops:_supports_onednn"
_ROPE_CACHE: Final = "vllm.model_executor.layers.rotary_embedding:_ROPE_DICT"
# Used when present. The second part says what happens without.
OPTIONAL_SYMBOLS: Final = {
    "vllm.distributed.parallel_state:get_pcp_group": "prefill context parallelism counts as 1",
    "vllm.envs:compile_factors": "environment switches are not part of the identity",
    _ONEDNN: "CPU kernels count as packing, the processed form is refused on CPUs",
    _ROPE_CACHE: "a rebuilt model may share rotary tables with the spoiled one",
    "vllm.model_executor.model_loader.reload:finalize_layerwise_processing": "no online quantisation",
}
# Objects of these packages are shared configuration, not state of the weights.
CONFIG_PACKAGES: Final = (
    "vllm.config",
    "transformers",
    "vllm.distributed",
    "vllm.platforms",
    "logging",
    "torch",
)


def register_loader(name: str, loader: type[BaseModelLoader]) -> None:
    """Register ``loader`` once. Raises ConflictError when the name belongs to another class."""
    holder = model_loader._LOAD_FORMAT_TO_MODEL_LOADER.get(name)
    if holder is loader:
        return
    if holder is not None:
        raise ConflictError(
            f"vLLM load format {name!r} is already registered by {holder.__module__}.{holder.__qualname__}",
            remedy="uninstall the other plugin, or set MX_REGISTER_LOADERS=0 to leave the name to it",
        )
    model_loader.register_model_loader(name)(loader)


def find_models_with(folder: Callable[[str, str | None], str | None], *, load_format: str) -> None:
    """Let vLLM build models of ``load_format`` from the folder that ``folder(model, revision)`` names.

    Asked before vLLM looks for the model's configuration, in every process that reads the
    arguments; None leaves the model to vLLM. The name that clients use stays. Calling it again changes
    nothing.
    """
    if getattr(EngineArgs.create_engine_config, _ASKS_FIRST, False):
        return

    def replace(arguments: Any) -> None:
        if arguments.load_format != load_format:
            return
        model = str(arguments.model)
        found = folder(model, arguments.revision)
        if found is None:
            return
        if arguments.served_model_name is None:
            arguments.served_model_name = model
        if arguments.tokenizer == model:
            arguments.tokenizer = found
        arguments.model = found

    def asking(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
            replace(self)
            return method(self, *args, **kwargs)

        setattr(asked, _ASKS_FIRST, True)
        return asked

    # The first knows the arguments before an offline vLLM refuses a model that it does not have. Where
    # it is running already (the plugin is loaded by it), the second is early enough.
    EngineArgs.__post_init__ = asking(EngineArgs.__post_init__)
    EngineArgs.create_engine_config = asking(EngineArgs.create_engine_config)


def engine_loader(load_config: LoadConfig, *, extra: dict[str, Any]) -> DefaultModelLoader:
    """vLLM's own loader for the same model, with the options that are not ours."""
    return DefaultModelLoader(
        dataclasses.replace(load_config, load_format="auto", model_loader_extra_config=extra)
    )


def hub_config(model_config: Any, *, name: str, commit: str) -> Any:
    """The same model by its name at the hub, for a loader that should look there."""
    config = copy.copy(model_config)
    config.model, config.revision, config.model_weights = name, commit, ""
    return config


def target_device(vllm_config: Any, load_config: LoadConfig) -> torch.device:
    """Where vLLM builds the model."""
    device = vllm_config.device_config.device if load_config.device is None else load_config.device
    return torch.device(device)


def default_dtype(model_config: Any) -> contextlib.AbstractContextManager[None]:
    """New tensors get the model's dtype inside."""
    context: contextlib.AbstractContextManager[None] = set_default_torch_dtype(model_config.dtype)
    return context


class ModelBuilder:
    """Builds the model with memory allocated and nothing filled in; and again after a spoiled attempt."""

    def __init__(self, vllm_config: Any, model_config: Any, *, prefix: str, device: torch.device) -> None:
        self._vllm_config = vllm_config
        self._model_config = model_config
        self._prefix = prefix
        self._device = device
        # Layers enter themselves here while they are built, and refuse to do so twice.
        compilation = vllm_config.compilation_config
        self._registries = [
            (registry, registry.copy())
            for registry in (
                getattr(compilation, "static_forward_context", None),
                getattr(compilation, "static_all_moe_layers", None),
                _optional(_ROPE_CACHE),
            )
            if registry is not None
        ]

    def build(self) -> torch.nn.Module:
        """A model whose parameters hold whatever the memory held."""
        with self._device:
            model: torch.nn.Module = initialize_model(
                vllm_config=self._vllm_config, model_config=self._model_config, prefix=self._prefix
            )
        return model

    def rebuild(self, spoiled: torch.nn.Module) -> torch.nn.Module:
        """A fresh model; ``spoiled`` gives its memory back first.

        Modules that vLLM shares between builds (rotary tables) are made anew as well: a failed
        pull may have written into them.
        """
        for registry, before in self._registries:
            registry.clear()
            registry.update(before) if isinstance(registry, dict) else registry.extend(before)
        for module in spoiled.modules():
            module._parameters.clear()
        gc.collect()
        release_cached_memory()
        return self.build()


def has_online_quantisation(model: torch.nn.Module) -> bool:
    """Whether layers get their weights only while a checkpoint is read."""
    return any(
        getattr(getattr(module, "quant_method", None), "uses_meta_device", False)
        for module in model.modules()
    )


def post_process(model: torch.nn.Module, model_config: Any, device: torch.device) -> None:
    """Bring loaded weights into the form the kernels use."""
    if has_online_quantisation(model):
        finalize = _optional("vllm.model_executor.model_loader.reload:finalize_layerwise_processing")
        if finalize is not None:
            finalize(model, model_config)
    process_weights_after_loading(model, model_config, device)


def fill_neutral(model: torch.nn.Module) -> None:
    """Values that post-processing can take before a pull overwrites them: ones in small tensors, else zeros.

    Uninitialised memory would feed NaN into checks of scales.
    """
    for parameter in model.parameters():
        if parameter.is_meta:
            continue
        small = parameter.is_floating_point() and parameter.nbytes <= 1 << 20 and parameter.element_size() > 1
        parameter.data.fill_(1) if small else parameter.data.zero_()


def release_cached_memory() -> None:
    """Give the allocator's spare device memory back before post-processing needs it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def allocated_bytes(device: torch.device) -> int | None:
    """Bytes that tensors hold on the device; None where the platform has no such number."""
    if device.type != "cuda":
        return None
    gc.collect()
    return int(torch.cuda.memory_allocated(device))


def form_for(device: torch.device) -> WeightsForm:
    """CPU kernels pack weights out of reach: share the form before that. Devices share the kernels' form."""
    return WeightsForm.LOADED if device.type == "cpu" else WeightsForm.PROCESSED


def obstacle(vllm_config: Any, model_config: Any, *, device: torch.device, form: WeightsForm) -> str:
    """Why this engine can neither take nor give weights; empty when it can."""
    parallel = vllm_config.parallel_config
    if device.type not in {"cpu", "cuda"}:
        return f"weights in {device.type} memory can't be transferred in this version"
    if getattr(parallel, "enable_eplb", False):
        return "expert load balancing moves experts between ranks while the engine runs"
    if model_config.quantization == "torchao":
        return "torchao keeps weights in tensor subclasses without an address"
    if form is WeightsForm.PROCESSED and device.type == "cpu" and _cpu_kernels_pack():
        return "CPU kernels keep packed weights out of sight, the form processed can't be transferred"
    if device.type != torch.device(vllm_config.device_config.device).type:
        return f"weights are loaded on {device.type}, which is not the engine's device"
    return ""


def _cpu_kernels_pack() -> bool:
    """Whether vLLM's CPU kernels keep packed weights where torch can't see them; yes when unsure."""
    return (
        _optional(_ONEDNN) is not False
        or torch.cpu._is_amx_tile_supported()
        or getattr(current_platform, "is_zen_cpu", bool)()
    )


def publish_obstacle(vllm_config: Any, model_config: Any) -> str:
    """Why this engine can't serve its weights to others; empty when it can."""
    if getattr(model_config, "enable_sleep_mode", False):
        return "sleep mode takes the weights out of memory while peers may read them"
    if getattr(vllm_config, "weight_transfer_config", None) is not None:
        return "weights are updated while the engine runs (weight_transfer_config)"
    return ""


def shard_rank(vllm_config: Any) -> int:
    """Index of the shard this worker holds: equal ranks of equal identities hold equal bytes."""
    context = _optional("vllm.distributed.parallel_state:get_pcp_group")
    by_experts = vllm_config.parallel_config.enable_expert_parallel
    return shard_index(
        _axis(parallel_state.get_dp_group()) if by_experts else ONE,
        _axis(parallel_state.get_pp_group()),
        _axis(context()) if context else ONE,
        _axis(parallel_state.get_tp_group()),
    )


def _axis(group: Any) -> Axis:
    return Axis(int(group.rank_in_group), int(group.world_size))


def weights_facts(
    vllm_config: Any, model_config: Any, *, form: WeightsForm, prefix: str, label: str, name: str
) -> WeightsFacts:
    """Facts for the identity; ``label`` (MX_MODEL_REVISION) and ``name`` override what vLLM knows.

    Raises PreconditionError when neither a commit nor local files tell which weights these are,
    NotFoundError or InvalidArgumentError for an unusable folder.
    """
    parallel = vllm_config.parallel_config
    context = getattr(parallel, "prefill_context_parallel_size", 1)
    experts = parallel.tensor_parallel_size * parallel.data_parallel_size * context
    revision, checkpoint = which_weights(
        model_config.model,
        label=label,
        commit=getattr(model_config.hf_config, "_commit_hash", None) or "",
        asked=model_config.revision or "",
    )
    processed = form is WeightsForm.PROCESSED
    return WeightsFacts(
        model_name=name or name_of(model_config.model).name,
        revision=revision,
        checkpoint=checkpoint,
        form=form,
        tensor_parallel_size=parallel.tensor_parallel_size,
        pipeline_parallel_size=parallel.pipeline_parallel_size,
        expert_parallel_size=experts if parallel.enable_expert_parallel else 1,
        dtype=str(model_config.dtype),
        quantization=model_config.quantization or "",
        platform=f"{current_platform.device_type}-{host_platform.machine()}",
        vllm_version=vllm_version,
        torch_version=str(torch.__version__),
        cuda_version=str(torch.version.cuda or getattr(torch.version, "hip", None) or ""),
        gpu_arch=_device_arch() if processed else "",
        layout=_layout_facts(vllm_config, model_config, prefix, processed=processed),
    )


def _layout_facts(vllm_config: Any, model_config: Any, prefix: str, *, processed: bool) -> dict[str, object]:
    hf_config, parallel = model_config.hf_config, vllm_config.parallel_config
    facts: dict[str, object] = {
        "architectures": list(getattr(hf_config, "architectures", None) or []),
        "runner": f"{getattr(model_config, 'runner_type', '')}/{getattr(model_config, 'convert_type', '')}",
        "quantization_config": _plain(getattr(hf_config, "quantization_config", None)),
        "hf_overrides": _plain(getattr(model_config, "hf_overrides", None)),
        "kv_cache_dtype": str(vllm_config.cache_config.cache_dtype),
        "lora": vllm_config.lora_config is not None,
        "prefix": prefix,
        "pooler": str(getattr(model_config, "pooler_config", None)),
    }
    if parallel.enable_expert_parallel:
        facts["experts"] = str(getattr(parallel, "expert_placement_strategy", "linear"))
    if processed:
        factors = _optional("vllm.envs:compile_factors")
        facts["environment"] = _plain(factors()) if factors else None
        for name in ("attention_config", "kernel_config"):
            facts[name] = str(getattr(vllm_config, name, None))
    return facts


def _plain(value: object) -> object:
    to_dict = getattr(value, "to_dict", None)
    if callable(to_dict):
        return to_dict()
    return getattr(value, "__qualname__", str(type(value))) if callable(value) else value


def _device_arch() -> str:
    capability = current_platform.get_device_capability()
    return (
        f"SM{capability.major}{capability.minor}"
        if capability is not None
        else str(current_platform.device_name)
    )


def _optional(symbol: str) -> Any:
    module, _, attribute = symbol.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def adopt_logging(level: int | None) -> None:
    """Let mx's log lines leave by vLLM's handlers, with their fields; ``level`` None keeps vLLM's own."""
    ours, theirs = logging.getLogger("mx"), logging.getLogger("vllm")
    if not ours.handlers:
        for handler in theirs.handlers:
            twin = copy.copy(handler)
            twin.setFormatter(_WithFields(handler.formatter or logging.Formatter()))
            ours.addHandler(twin)
            ours.propagate = False
    ours.setLevel(theirs.getEffectiveLevel() if level is None else level)


class _WithFields(logging.Formatter):
    """vLLM's look, and the fields of an event after the sentence."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        text = self._inner.format(record)
        return f"{text} {' '.join(f'{key}={value}' for key, value in fields.items())}" if fields else text


def all_weights(loader: DefaultModelLoader, model_config: Any, model: torch.nn.Module) -> Iterator[Any]:
    """(name, tensor) of every checkpoint weight, for vLLM's reload."""
    yield from loader.get_all_weights(model_config, model)
