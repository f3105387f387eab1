"""Use cases: what the server does with sources and transfers, whoever asks.

Ports in, core values out; must not know gRPC, SQL or any other I/O library, nor settings. Rules
about time (what is fresh, stale, dead) live here and nowhere else.
"""
