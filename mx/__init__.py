"""mx: model weights into inference workers, fast and verified.

Importing this package loads the standard library only; every heavy dependency
(torch, grpc, textual, redis, kubernetes, nixl) is imported where it is used.
"""

__version__ = "0.1.0"
