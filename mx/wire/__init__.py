"""The wire: protobuf messages, their translation to and from ``core``, and status codes.

Duty: turn bytes into ``core`` values and back, and errors into gRPC status and back.
Must not hold policy, open connections, or know server, client or stores.
``v1`` is written by ``protos/generate.py``; everything else here is by hand.
"""
