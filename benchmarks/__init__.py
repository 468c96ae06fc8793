"""Measure what recording and reading cost: `make bench` prints tables, and writes JSON with ARGS="--json FILE".

Each number is the median of several interleaved rounds, and each round runs in its own process. Compare ratios within
one run, not times between two runs.
"""
