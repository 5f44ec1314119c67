"""The project's detectors and kernels against public data and their own targets."""
