"""How much a guarded request costs, here and elsewhere: ``make bench`` measures it and writes ``RESULTS.md``."""
