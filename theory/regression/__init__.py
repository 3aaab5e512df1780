"""Exact Gaussian process regression, and the learning curves that are measured with it."""
