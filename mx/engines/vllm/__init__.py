"""The vLLM plugin: registers the load format ``mx``.

vLLM calls ``register`` in the front end, the engine core and every worker. Importing this
package loads none of torch, vllm, grpc and nixl; ``register`` may. Must not hold policy:
what is loaded from where is decided in ``mx.engines.chain`` and ``mx.transfer``.
"""

from __future__ import annotations

import logging
import os

LOAD_FORMAT = "mx"
_OFF = frozenset({"0", "false", "no", "off"})


def register() -> None:
    """Register the loader with vLLM; calling it again changes nothing.

    With MODEL_EXPRESS_NO_SHARED_STORAGE models are also looked for in the server's cache first.
    MX_REGISTER_LOADERS=0 turns it off. Raises ConflictError when another package has taken the
    name, instead of replacing its loader in silence. A missing dependency is logged and not
    raised: vLLM calls this for every load format, and must start without mx.
    """
    # The one variable read outside mx.config: a mistake in mx's settings must not stop a vLLM
    # that loads with another format.
    if os.environ.get("MX_REGISTER_LOADERS", "").strip().lower() in _OFF:
        return
    try:
        from mx.engines.vllm import internals, loader
    except ImportError as error:
        logging.getLogger("vllm.mx").warning(
            "load format %s is not available: %s (pip install 'modelexpress-mx[vllm]')", LOAD_FORMAT, error
        )
        return
    internals.register_loader(LOAD_FORMAT, loader.MxModelLoader)
    internals.find_models_with(loader.folder_of, load_format=LOAD_FORMAT)
