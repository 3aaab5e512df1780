"""Averages of activations: over Gaussian pre-activations, and over the weights of a neuron."""
