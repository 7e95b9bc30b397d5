"""Benchmarks and a chaos test, run by ``make bench``, ``make scale`` and ``make chaos``."""
