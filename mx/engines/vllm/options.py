"""What ``--model-loader-extra-config`` says to mx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mx.engines.vllm.identity import WeightsForm
from mx.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """``--model-loader-extra-config`` of mx; what is not listed here goes to vLLM's own loader.

    form        auto | loaded | processed: the state in which weights are transferred
    pull        take weights from peers
    publish     serve weights to peers
    model_name  name in the identity, instead of the hub id or the folder's name
    """

    form: WeightsForm | None = None
    pull: bool = True
    publish: bool = True
    model_name: str = ""

    @classmethod
    def split(cls, extra: Mapping[str, Any]) -> tuple[LoaderOptions, dict[str, Any]]:
        """Our options, and the rest. Raises InvalidArgumentError for a wrong value."""
        rest = dict(extra)
        form = rest.pop("form", "auto")
        if form not in {"auto", *WeightsForm}:
            raise InvalidArgumentError(
                f"model_loader_extra_config: form is {form!r}", remedy="use auto, loaded or processed"
            )
        flags: dict[str, bool] = {}
        for key in ("pull", "publish"):
            flags[key] = rest.pop(key, True)
            if not isinstance(flags[key], bool):
                raise InvalidArgumentError(
                    f"model_loader_extra_config: {key} is {flags[key]!r}", remedy="use true or false"
                )
        name = rest.pop("model_name", "")
        if not isinstance(name, str):
            raise InvalidArgumentError(
                f"model_loader_extra_config: model_name is {name!r}", remedy="use a text"
            )
        return cls(None if form == "auto" else WeightsForm(form), model_name=name, **flags), rest
