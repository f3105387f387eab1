"""The cache on disk: layouts, staging, atomic publish, removal, verification. ``open_cache`` opens it.

Correct without file locks: a file is verified under a name of its own and appears by rename; an
entry is one only by its completion record, which is written last; deleting withdraws the record
first. Must not know providers, records of a store, or claims: a publish asks a fence instead.
"""

from mx.providers.cache.disk import DiskCache, open_cache
from mx.providers.cache.stage import DiskStaging

__all__ = ["DiskCache", "DiskStaging", "open_cache"]
