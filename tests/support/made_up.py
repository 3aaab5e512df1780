"""What nobody has heard of, as a plug-in has it: a record of a theory and of an observable, and an
activation and a source of data, which are functions.
"""

import numpy as np

from storage.campaign.observables import Observable
from storage.campaign.theory_record import Theory


def bent(z):
    """Softsign, whose averages are known by quadrature alone."""
    return z / (1 + z.abs())


def ring(train, test, seed, radius=1.0):
    """Points on a circle, and how far right they are."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    angle = 2 * np.pi * generator.random(train + test)
    x = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x[:train], x[:train, 0], x[train:], x[train:, 0]


def _largest(outputs, fields, data):
    return outputs.reshape(len(outputs), -1).abs().amax(1)


def _predict(spec, dataset):
    return {"mse_mean": np.mean(dataset.y_test**2), "largest": np.float64(1.0)}


def _wide(cell):
    return None if cell.network.width >= 8 else f"width {cell.network.width}, wanted 8"


largest = Observable(words="the largest output", measure=_largest)
nothing = Theory(
    title="nothing learned",
    words="the theory that nothing is learned",
    meaning="a network that has learned nothing (Nobody 2026)",
    papers=("nobody2026nothing",),
    bibtex="@misc{nobody2026nothing,\n  author = {Nobody, N.},\n  title = {Nothing}\n}",
    colour="purple",
    holds=(_wide,),
    predict=_predict,
)
