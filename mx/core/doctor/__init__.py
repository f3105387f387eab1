"""What ``mx doctor`` makes of the facts that it gathers: pure rules, one module a subject.

A rule takes facts and gives findings, each with its remedy where there is something to do. It reads
nothing, asks nobody and has no clock: what is wrong with a machine can be told of one that is not here.
"""
