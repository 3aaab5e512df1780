"""Runs: on Ray or in this process, as a Prefect flow or without, from the command line."""
