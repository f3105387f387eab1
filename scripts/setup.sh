#!/usr/bin/env bash
# Make a virtual environment with mx in it: scripts/setup.sh DIR EXTRAS   (EXTRAS as in pip: nixl,dev)
# Needs Python 3.11 or newer and nothing else. Running it again brings DIR up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1 extras=${2:-}

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "mx needs Python 3.11 or newer with venv; set PYTHON=/path/to/python3" >&2
  exit 1
}

has_nvidia() { [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null 2>&1; }

# NIXL's wheel asks for torch, and on Linux pip's choice is a CUDA build of several GB. Without an NVIDIA
# driver it would be dead weight, so the CPU build goes in first and satisfies it. The local version "+cpu"
# names CPU wheels only: where pip is set up with one (a mirror, a wheel directory) the first line takes it;
# elsewhere the first line ends at once with "no matching distribution" and PyTorch's own CPU index has it.
CPU_TORCH='torch==2.13.0+cpu'
CPU_INDEX=https://download.pytorch.org/whl/cpu

install_cpu_torch() {
  "$dir/bin/python" -c 'import torch' 2>/dev/null && return
  pip_install "$CPU_TORCH" 2>/dev/null || pip_install --index-url "$CPU_INDEX" "$CPU_TORCH"
}

pip_install() { "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

[ -x "$dir/bin/python" ] || "$(find_python)" -m venv "$dir"
case ",$extras," in
  *,nixl,*) if [ "$(uname -s)" = Linux ] && ! has_nvidia; then install_cpu_torch; fi ;;
esac
pip_install --editable ".${extras:+[$extras]}"
