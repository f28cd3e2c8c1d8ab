"""The parts of benchmarks/search.py: the LCBench surrogate, stock Optuna's ways to search it, ours, and the tables."""
