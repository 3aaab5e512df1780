"""Code of a user's own for the campaigns of the space: one of each kind, without state."""

import numpy as np


def phi(z):
    """Softsign, an activation without closed forms."""
    return z / (1 + z.abs())


def make(train, test, seed, radius=1.0):
    """Two rings, ±1; smaller training sets are prefixes of larger ones."""

    def draw(points, stream):
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, stream]))
        angle = 2 * np.pi * generator.random((points, 2))
        outer = np.arange(points) % 2
        x = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * (1 + radius * outer)[:, None]
        return x, 2.0 * outer - 1

    return *draw(train, 0), *draw(test, 1)


def measure(outputs, pre_activations, data):
    """The spread of the outputs over test points, (chain, ...) -> (chain,)."""
    return outputs.reshape(len(outputs), -1).std(dim=1, correction=0)


def predict(spec, dataset):
    """Linear regression with a ridge."""
    x, y = dataset.x_train, dataset.y_train
    weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(x.shape[1]), x.T @ y)
    return {"output_mean": dataset.x_test @ weights}
