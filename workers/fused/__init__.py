"""The Langevin step of fully connected networks in C++, compiled where it is first used."""
