"""Timing scripts: `python -m benchmarks` runs them all."""
