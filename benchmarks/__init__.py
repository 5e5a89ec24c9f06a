"""Benchmarks: `python -m benchmarks` lists them and runs the quick ones; see README.md."""
