"""The embedded store: one SQLite file in WAL mode, shared by several processes if need be.

``database`` opens the file and groups writes; ``failures`` words its errors; ``schema`` holds the
migrations; ``sources``, ``models``, ``duties`` and ``events`` are the ports, ``rows`` and ``model_rows`` turn
values into columns and back. Only tables whose names begin with ``mx_`` are ours: the table
``models`` of older releases may lie in the same file; ``older`` reads it once, and nothing here
writes it.
"""

from mx.store.sqlite.database import Database
from mx.store.sqlite.duties import SqliteDuties
from mx.store.sqlite.events import SqliteEventStore
from mx.store.sqlite.models import SqliteModelStore
from mx.store.sqlite.sources import SqliteSourceStore
from mx.store.sqlite.view import SqliteView

__all__ = [
    "Database",
    "SqliteDuties",
    "SqliteEventStore",
    "SqliteModelStore",
    "SqliteSourceStore",
    "SqliteView",
]
