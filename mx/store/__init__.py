"""Stores: the ports of ``mx.ports`` kept in memory, SQLite, Redis or Kubernetes.

Every backend passes the contract suite in ``mx.testing.store_contract`` and gives the same
answers. A store keeps and finds records; it must not judge them (that is ``services``), must
not read a clock or settings, and must turn every library error into an ``mx.errors`` one.
Backends never import each other.
"""
