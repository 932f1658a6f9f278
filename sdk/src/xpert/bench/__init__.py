"""Benchmarks: one run of one benchmark gives one JSON record with seed, commit, hardware and the paper's values."""
