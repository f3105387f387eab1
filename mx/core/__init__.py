"""Values and rules of mx: what a source is, what matches, what is read in which order.

Standard library only. No clock, no log, no I/O: ``now`` is always a parameter.
Must not import any other package of mx except ``mx.errors``.
"""
