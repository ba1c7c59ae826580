"""Runs that are killed at random moments and taken up again.

`python -m tests.kills` kills processes; `runner.difference` stops a run in this process.
"""
