"""The main job on one machine: a server, one replica that loads from disk, others that pull from it.

Every part is a process of its own and does what it does in a fleet; only the model is small and
the engine is missing. A face: it uses ``transfer`` and ``client`` and holds no rules of its own.
"""
