"""The store that several servers share: Redis, plain, with TLS, behind Sentinels, or a cluster.

``sources`` and ``models`` are the ports, ``source_reads``, ``source_rows``, ``model_rows`` and ``packed``
turn hashes into values and back, ``keys`` has the names; ``change`` is the one conditional write;
``link`` talks to Redis, ``connect`` makes its client, ``failures`` words its errors, ``clock`` tells its
time; ``changes`` feeds watches; ``duties`` are leases of work, ``events`` what happened; ``sweep`` mends
the indexes.

Redis is an index that can be rebuilt: workers publish anew when their heartbeat is not known, and models
are found again on the disk. What is written under ``mx:source:`` and ``mx:model:`` is the storage contract,
sections 2 and 3, and readable for published servers.
"""

from mx.store.redis.duties import RedisDuties
from mx.store.redis.events import RedisEventStore
from mx.store.redis.link import Link
from mx.store.redis.models import RedisModelStore
from mx.store.redis.opening import RedisBackend, open_link, open_redis
from mx.store.redis.sources import RedisSourceStore
from mx.store.redis.view import RedisView

__all__ = [
    "Link",
    "RedisBackend",
    "RedisDuties",
    "RedisEventStore",
    "RedisModelStore",
    "RedisSourceStore",
    "RedisView",
    "open_link",
    "open_redis",
]
