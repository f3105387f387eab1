"""The SDK that command line, screens and engines call.

``base`` is the interface; ``grpc`` and ``embedded`` implement it, ``sync`` is its blocking twin for
engine processes. Duty: carry calls, retry what may be retried, fall back where a server lacks mx's
own calls. Must not hold policy about models or transfers, nor show anything to a person.
"""
