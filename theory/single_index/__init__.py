"""Networks that learn a function of one direction: the order parameter q, phases, droplets."""
