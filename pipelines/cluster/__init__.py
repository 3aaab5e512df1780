"""Handing campaigns to the workers of a Prefect server, and taking them back."""
