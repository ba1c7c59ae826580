"""The command `keras-local`: settings of experiments, functions that run them, and reports."""
