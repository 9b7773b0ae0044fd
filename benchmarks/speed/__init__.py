"""Measure what this compiler costs and gains in seconds: tracing, the loops' wall time, importing.

`python -m benchmarks.speed --threads 1` writes results/speed.md. Wall times come from one process: every
contestant runs once a round, in an order that turns round every time (A B C C B A ...), so that none always
has the same place. A speed-up is the median over rounds of the eager loop's time divided by the contestant's.
"""
