"""The engine, the Prefect flows, the theory stage, the command line and the report."""
