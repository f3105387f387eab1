"""Use cases: what the server does with sources, transfers and models, whoever asks.

Ports in, core values out; must not know gRPC, SQL or any other I/O library, nor settings. Rules
about time (what is fresh, stale, dead, due) live here and nowhere else.
"""
