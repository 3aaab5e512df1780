"""What the smaller commands do: list, status and verify."""
