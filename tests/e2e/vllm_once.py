"""Loads a model in this process with load format mx, prints one JSON line per answer.

    vllm_once.py MODEL [EXTRA_CONFIG_JSON] [--hold] [--unpacked]

With --hold the process goes on as a source; each line on stdin is a command: ``flip`` changes one
byte of the served weights behind everyone's back, anything else ends it. With --unpacked vLLM
multiplies without oneDNN, so that processed weights stay in sight as they do on devices.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys


def main(model: str, extra: dict[str, object], *, hold: bool, unpacked: bool) -> None:
    from vllm import LLM, SamplingParams, _custom_ops

    if unpacked:
        _custom_ops._supports_onednn = False

    llm = LLM(model, load_format="mx", model_loader_extra_config=extra, enforce_eager=True, max_model_len=256)
    (reply,) = llm.generate(["The capital of France is"], SamplingParams(max_tokens=12, temperature=0))
    answer = {"text": reply.outputs[0].text, "token_ids": list(reply.outputs[0].token_ids)}
    print(f"ANSWER {json.dumps(answer)}", flush=True)
    while hold and sys.stdin.readline().strip() == "flip":
        flip_largest_tensor(os.environ["MODEL_EXPRESS_URL"])
        print("FLIPPED", flush=True)


def flip_largest_tensor(address: str) -> None:
    from mx.client.sync import SyncClient
    from mx.core.source import SourceFilter, TensorSource

    with SyncClient(address) as client:
        (row,) = client.list_sources(SourceFilter())
        entry = client.get_source(row.source_id, row.worker_id)
    assert entry is not None
    assert isinstance(entry.worker.payload, TensorSource)
    largest = max(entry.worker.payload.tensors, key=lambda tensor: tensor.size)
    byte = (ctypes.c_ubyte * 1).from_address(largest.addr + largest.size // 2)
    byte[0] ^= 0x40


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    options = json.loads(words[1]) if len(words) > 1 else {}
    main(words[0], options, hold="--hold" in sys.argv, unpacked="--unpacked" in sys.argv)
