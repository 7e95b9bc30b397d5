"""Benchmarks, a chaos test and a fuzzer, run by ``make bench``, ``make chaos`` and ``make fuzz``."""
