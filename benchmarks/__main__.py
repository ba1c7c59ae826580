"""Run every benchmark with its defaults: `python -m benchmarks`."""

import runpy

for script in (
    "benchmarks.feedback_step",
    "benchmarks.krotov_step",
    "benchmarks.locally_connected",
    "benchmarks.settling_step",
):
    runpy.run_module(script, run_name="__main__")
