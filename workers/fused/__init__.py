"""The Langevin step of two-layer networks in C++, compiled where it is first used."""
