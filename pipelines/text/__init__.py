"""Numbers, times and tables as text."""
