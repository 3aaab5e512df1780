"""Whether a store is what was written, and how it is made good."""
