"""The embedded store: one SQLite file in WAL mode, shared by several processes if need be.

``database`` opens the file and groups writes; ``failures`` words its errors; ``schema`` holds the
migrations; ``rows`` turns values into columns and back; ``sources`` is the port. Only tables
whose names begin with ``mx_`` are ours: the table ``models`` of older releases may lie in the
same file and is neither read nor written here.
"""

from mx.store.sqlite.database import Database
from mx.store.sqlite.sources import SqliteSourceStore

__all__ = ["Database", "SqliteSourceStore"]
