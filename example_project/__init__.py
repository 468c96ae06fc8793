"""A small blog that keeps its own page statistics with `pagestats`."""
