"""The flow as a Prefect worker imports it, in a process that no command of ours has set up.

Prefect runs the hooks of a flow in a script of its own, whose folder then comes first where modules
are looked for, and has a `storage.py` that would hide our package.
"""

import sys
from pathlib import Path

from prefect import runner

HIDING = Path(runner.__file__).resolve().parent
sys.path[:] = [place for place in sys.path if Path(place).resolve() != HIDING]

from pipelines import process  # noqa: E402

process.settle()

from pipelines.run.flows import campaign  # noqa: E402, F401  after what it imports has been told
