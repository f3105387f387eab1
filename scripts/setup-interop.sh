#!/usr/bin/env bash
# Makes an environment with the published client and this checkout of mx: .venv-interop, or MX_INTEROP_VENV.
# It is apart from mx's own because modelexpress 0.7.0 asks for protobuf < 7; mx runs with both.
# Does nothing, and says nothing, when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${MX_INTEROP_VENV:-.venv-interop}
stamp=$dir/.installed
# The tests name what they were written against, so these versions are pinned.
published=modelexpress==0.7.0
nixl=nixl==1.5.1
cpu_torch=torch==2.13.0+cpu
cpu_index=https://download.pytorch.org/whl/cpu

if [ -x "$dir/bin/python" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt scripts/setup-interop.sh ]; then
  exit 0
fi

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "the interop tests need Python 3.11 or newer with venv; set PYTHON=/path/to/python3" >&2
  exit 1
}

has_nvidia() { [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null 2>&1; }
pip_install() { "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

echo "setting up $dir with $published and $nixl (a minute or two the first time)" >&2
[ -x "$dir/bin/python" ] || "$(find_python)" -m venv "$dir"
# CPU torch first, as scripts/setup.sh does and for its reason: both packages ask for torch, and pip's
# own choice on Linux is a CUDA build of several GB.
if [ "$(uname -s)" = Linux ] && ! has_nvidia && ! "$dir/bin/python" -c 'import torch' 2>/dev/null; then
  pip_install "$cpu_torch" 2>/dev/null || pip_install --index-url "$cpu_index" "$cpu_torch"
fi
# One resolution of everything: it fails here, not in a test, when mx and the published package can't share
# an environment.
pip_install --editable . "$published" "$nixl" numpy 'protobuf<7'
"$dir/bin/python" -c 'import modelexpress, mx, nixl'
touch "$stamp"
