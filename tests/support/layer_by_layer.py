"""Fully connected networks, layer by layer."""


def one_output(network, vector, x):
    """f(x) of one chain, layer by layer from the names of the layout."""
    part = {n.name: vector[n.start : n.stop].view(n.shape) for n in network.layers}
    signal = x
    for level in range(1, network.depth + 1):
        field = signal @ part[f"weight_{level}"].T + part.get(f"bias_{level}", 0.0)
        signal = network.activation.phi(field)
    return signal @ part["readout"]
