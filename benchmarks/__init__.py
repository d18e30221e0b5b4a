"""Measurements: `python -m benchmarks` of everything.

What it does not measure has commands of its own: `benchmarks.environment` each kind of observation and late
notes, `benchmarks.theory` the race against the published program, `benchmarks.preference` a peer's prompt.
"""
