"""Code of a user's own that does what tests ask for by environment variables."""

import os
import signal
import time
import traceback
from hashlib import sha256
from pathlib import Path

import torch

from storage.errors import CampaignError


def tried() -> bool:
    """Whether this is the trial before a run: what goes wrong here goes wrong later."""
    return any("plugin_checks" in frame.filename for frame in traceback.extract_stack())


def slow(outputs, fields, data):
    """Mean square of the output, (chain,): takes its time, and writes down what it was given."""
    time.sleep(float(os.environ.get("SLOW_SECONDS", 0)))
    if "SLOW_DRAWS" in os.environ and not tried():
        with open(os.environ["SLOW_DRAWS"], "a") as file:
            file.write(f"{sha256(outputs.numpy().tobytes()).hexdigest()}\n")
    return outputs.square().mean(1)


def picky(outputs, fields, data):
    """The first output, (chain,), of networks of every width but one."""
    width = fields[0].shape[1]
    if width == int(os.environ.get("PICKY_WIDTH", 0)) and not tried():
        raise ZeroDivisionError(f"no width\nlike {width}")
    return outputs[:, 0]


def mortal(h):
    """tanh, where a file says that a process has died of it already; otherwise one does."""
    file = Path(os.environ["MORTAL_FILE"])
    if not file.exists() and not tried():
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.tanh(h)


def deadly(h):
    """The end of the process."""
    if not tried():
        os._exit(1)
    return torch.tanh(h)


def helpless(h):
    """What only the user can put right."""
    if not tried():
        raise CampaignError("found a network, wanted a cat; bring a cat")
    return torch.tanh(h)
