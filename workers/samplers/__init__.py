"""Samplers, one file each: a pair of functions (init, step) on the state of a block of chains.

Positions z (chain, parameter) are whitened by the prior, and the target is exp(-U(z)) with the U of
`workers.networks.networks.potential`. Most know U and its gradient alone; those that draw a layer
exactly, take minibatches or change the temperature are given the network and its data.
"""
