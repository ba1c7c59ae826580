"""Every layer, rule and network in every way of training, saving and exporting, as one table.

`python -m tests.matrix` runs the cells that have not been run, and writes `docs/matrix.md`.
"""
