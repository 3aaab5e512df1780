"""The machine at hand: its cores, its memory, and what is cached on it."""
