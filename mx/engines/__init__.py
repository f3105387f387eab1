"""Inference engines: adapters that let an engine load through mx.

Engine internals stay below this package; nothing else of mx imports an engine.
"""
