"""Messages and services of the wire, written by ``protos/generate.py`` from ``protos/``.

Must not be edited by hand, and must not enter protobuf's default pool: the published
package declares the same file names and symbols.
"""
