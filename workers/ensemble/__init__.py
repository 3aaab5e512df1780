"""One segment of a block of chains: its start, its scheme, its step, what it stores."""
