"""What others need to test against mx: fakes that behave, and the contract suites of the ports.

Shipped, and held to the rules of product code. Must not be imported by anything outside tests.
Nothing here replaces a module of mx: a fake implements a port.
"""
