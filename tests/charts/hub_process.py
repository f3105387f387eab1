"""A hub on loopback with one model, until it is ended: ``python hub_process.py NAME FILE``.

Writes its address to FILE once it answers.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from mx.testing.fake_hub import FakeHub

FILES = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": bytes(range(256)) * 4096}


def main() -> None:
    name, file = sys.argv[1], Path(sys.argv[2])
    with FakeHub() as hub:
        hub.add(name, FILES)
        whole = file.with_suffix(".new")
        whole.write_text(hub.endpoint)
        whole.rename(file)
        signal.pause()


if __name__ == "__main__":
    main()
