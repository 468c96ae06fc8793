"""What recording and reading cost, measured: `make bench` prints tables, and writes JSON with ARGS="--json FILE".

Each figure is the median of interleaved rounds, each round in a process of its own; compare the ratios of one run, not
the times of two.
"""
