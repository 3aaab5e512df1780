"""Numerical methods that theories share: roots, factors, eigenvectors, what a float holds."""
