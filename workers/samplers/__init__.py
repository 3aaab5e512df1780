"""Samplers, one file each: a pair of functions (init, step) on the state of a block of chains.

Positions z (chain, parameter) are whitened by the prior, the target is exp(-U(z)) with the U of
`workers.networks.potential`: temperature, data and prior are in U, and the samplers know none.
"""
