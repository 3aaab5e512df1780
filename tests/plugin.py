"""Code of a user's own that does what tests ask for by environment variables."""

import os
import time
from hashlib import sha256
from pathlib import Path

import torch

from storage.errors import CampaignError


def slow(outputs, fields, data):
    """Mean square of the output, (chain,): takes its time, and writes down what it was given."""
    time.sleep(float(os.environ.get("SLOW_SECONDS", 0)))
    if "SLOW_DRAWS" in os.environ:
        with open(os.environ["SLOW_DRAWS"], "a") as file:
            file.write(f"{sha256(outputs.numpy().tobytes()).hexdigest()}\n")
    return outputs.square().mean(1)


def picky(outputs, fields, data):
    """The first output, (chain,), of networks of every width but one."""
    width = fields[0].shape[1]
    if width == int(os.environ.get("PICKY_WIDTH", 0)):
        raise ZeroDivisionError(f"no width\nlike {width}")
    return outputs[:, 0]


def mortal(h):
    """tanh, where a file says that a process has died of it already; otherwise one does."""
    file = Path(os.environ["MORTAL_FILE"])
    if not file.exists():
        file.touch()
        os._exit(1)
    return torch.tanh(h)


def deadly(h):
    """The end of the process."""
    os._exit(1)


def helpless(h):
    """What only the user can put right."""
    raise CampaignError("found a network, wanted a cat; bring a cat")
