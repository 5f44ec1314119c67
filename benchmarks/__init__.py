"""Detectors and kernels against their own targets, and the pipeline's figures: each `bench_*.py` runs by itself."""
