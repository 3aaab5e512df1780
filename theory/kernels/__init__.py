"""Kernels of infinitely wide networks: NNGP and NTK, fully connected and convolutional."""

from theory.kernels.fully_connected import nngp, nngp_and_ntk, ntk, pre_activation_kernels

__all__ = ["nngp", "nngp_and_ntk", "ntk", "pre_activation_kernels"]
