"""Receiving models from the server on a machine that shares no storage with it.

``receive`` and, for engines and threads, ``receive_blocking``: the server makes the model present,
its files come over several connections, checked as they come, and appear in a cache directory whole
or not at all. Duty: moving and policy of retries; what a file must be, and how it appears, is the
cache's own. Processes of one cache directory elect one of them that receives.
"""

from mx.client.receive.front import receive, receive_blocking
from mx.client.receive.rules import ReceiveRules

__all__ = ["ReceiveRules", "receive", "receive_blocking"]
