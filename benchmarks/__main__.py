"""Run every benchmark that needs TensorFlow alone, with its defaults: `python -m benchmarks`."""

import runpy

for script in (
    "benchmarks.distribution",
    "benchmarks.feedback_step",
    "benchmarks.hebbian_convolution",
    "benchmarks.krotov_epoch",
    "benchmarks.krotov_step",
    "benchmarks.locally_connected",
    "benchmarks.recurrent_step",
    "benchmarks.settling_step",
):
    runpy.run_module(script, run_name="__main__")
