"""vLLM command lines in examples/: vLLM's own parser takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mx.engines.vllm import register

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.vllm


def command_lines() -> dict[str, list[str]]:
    """The arguments of every ``vllm serve``, by file and place."""
    found: dict[str, list[str]] = {}

    def walk(node: Any, name: str) -> None:
        if isinstance(node, dict):
            if node.get("command") == ["vllm", "serve"]:
                found[f"{name} {len(found)}"] = [str(word) for word in node["args"]]
            node = list(node.values())
        if isinstance(node, list):
            for one in node:
                walk(one, name)

    for file in sorted(EXAMPLES.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            walk(document, file.name)
    return found


@pytest.mark.parametrize("place", command_lines())
def test_vllm_takes_the_command_line(place: str) -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    register()
    # What LeaderWorkerSet puts in.
    words = [
        word.replace("$(LWS_WORKER_INDEX)", "1").replace("$(LWS_LEADER_ADDRESS)", "leader")
        for word in command_lines()[place]
    ]
    asked = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    assert asked.load_format == "mx"
    assert asked.model_tag == words[0]
