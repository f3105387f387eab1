"""Whose call it is, as its metadata says: servers whose operators may only look go by it."""

ROLE_KEY = "mx-role"
WORKER = "worker"
