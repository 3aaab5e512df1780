"""Files that campaigns of the space read."""

from pathlib import Path

import numpy as np

from support.campaign_space import DIMENSION, PLUGIN
from support.idx_files import idx

HERE = Path(__file__).parent


def write_files(folder: Path) -> None:
    """What sources that are files read, and the module of plug-ins."""
    draw = np.random.default_rng(5)
    for name, points, tests, outputs in [("npz", 30, 44, 0), ("npz_outputs", 30, 44, 2)]:
        x, x_test = draw.normal(size=(points, DIMENSION)), draw.normal(size=(tests, DIMENSION))
        columns = 0 if outputs == 0 else slice(0, outputs)
        y, y_test = np.tanh(x)[:, columns], np.tanh(x_test)[:, columns]
        np.savez(folder / f"{name}.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    # Whole numbers, a zero row, repeated rows, Fortran order, targets (n, 1): all that is odd.
    x = np.asfortranarray(draw.integers(-3, 4, size=(28, DIMENSION)).astype(np.int16))
    x[3], x[5] = 0, x[4]
    y = np.sign(x[:, :1] + 0.5).astype(np.float32)
    np.savez(folder / "npz_odd.npz", x_train=x, y_train=y, x_test=x[:-1] + 1, y_test=y[:-1])
    _write_mnist(folder / "mnist", draw)
    (folder / f"{PLUGIN}.py").write_text((HERE / f"{PLUGIN}.py").read_text())


def _write_mnist(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir(exist_ok=True)
    classes = np.arange(120, dtype=np.uint8) % 3
    images = draw.integers(0, 256, size=(120, 28, 28), dtype=np.uint8)
    for name, array in [("images-idx3", images), ("labels-idx1", classes)]:
        (folder / f"t10k-{name}-ubyte").write_bytes(idx(array))
