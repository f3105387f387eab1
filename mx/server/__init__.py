"""The gRPC face of mx: protocol only.

Duty: turn calls into service calls and answers into messages; listen, say whether it can serve, drain.
Must not hold rules about sources or models (``services``), nor open stores (``wiring``).
"""
