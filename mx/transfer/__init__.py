"""Moving tensors from the memory of running workers into a new one.

Owns NIXL, the worker's own gRPC service and the pull. Tensor bytes never pass the server.
Must not import an engine, a store or the server; torch only in ``torch_tensors``.
"""
