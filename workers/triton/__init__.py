"""Noise and gradients on CUDA devices in Triton, compiled where they are first used."""
