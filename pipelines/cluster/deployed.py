"""The flow as a Prefect worker imports it, in a process that no command of ours has set up."""

from pipelines import process

process.settle()

from pipelines.run.flows import campaign  # noqa: E402, F401  after what it imports has been told
