"""The terminal UI: the fleet on one screen, with the keys to act.

Sees ``client.base`` and ``core`` only, so that the whole UI runs in tests with no server.
"""
