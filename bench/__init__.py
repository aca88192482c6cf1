"""Runnable comparisons behind every figure in docs/benchmarks.md."""
