"""The facts that ``mx doctor`` judges: read here, judged in ``mx.core.doctor``.

Nothing is changed on the machine but a file that is made in a cache and removed again. Nothing waits
without a bound: ``examination`` gives each check its deadline.
"""
