"""Benchmarks: `python -m benchmarks` lists them and runs the quick ones; README.md explains each."""
