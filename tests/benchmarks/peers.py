"""JAX and two sampling libraries, in an environment of their own: see peers.txt.

They are imported by name, since nothing else here may depend on them.
"""

import importlib
import math
import sys

import serving

serving.one_thread()

from settings import STEP_SIZE, TEMPERATURE, Setting, data, start  # noqa: E402

KICK = math.sqrt(2 * STEP_SIZE)


def jax_modules():
    return (importlib.import_module(name) for name in ("jax", "jax.numpy", "jax.scipy.special"))


def jax_energy(setting, x, y):
    """U of one chain as a function of z."""
    *_, special = jax_modules()

    def energy(layers):
        signal = x
        for layer, fan in zip(layers[:-1], setting.fans, strict=False):
            signal = special.erf(signal @ layer.T / math.sqrt(fan))
        residual = signal @ layers[-1] / math.sqrt(setting.fans[-1]) - y
        prior = sum((layer**2).sum() for layer in layers)
        return prior / 2 + (residual**2).sum() / (2 * TEMPERATURE)

    return energy


def jax_chains(setting, gradient, step=None):
    """ULA of all chains in one compiled loop, by the gradient of all of them or a given step."""
    jax, jnp, _ = jax_modules()

    def langevin(key, layers):
        keys = jax.random.split(key, len(layers))
        return tuple(
            layer - STEP_SIZE * slope + KICK * jax.random.normal(key, layer.shape)
            for layer, slope, key in zip(layers, gradient(layers), keys, strict=True)
        )

    def body(index, carry):
        key, layers = carry
        return key, (step or langevin)(jax.random.fold_in(key, index), layers)

    @jax.jit
    def many(steps, key, layers):
        return jax.lax.fori_loop(0, steps, body, (key, layers))[1]

    layers = tuple(jnp.asarray(layer) for layer in start(setting))
    key = jax.random.key(0)
    return serving.Chains(
        lambda: jax.jit(gradient)(layers),
        lambda steps: jax.block_until_ready(many(steps, key, layers)),
    )


def jax_vmap(setting: Setting):
    """All chains at once, by jax.vmap of jax.grad."""
    jax, jnp, _ = jax_modules()
    x, y = (jnp.asarray(array) for array in data(setting))
    return jax_chains(setting, jax.vmap(jax.grad(jax_energy(setting, x, y))))


def jax_by_hand(setting: Setting):
    """All chains in one matrix product, where they share the data, by a gradient by hand."""
    _, jnp, special = jax_modules()
    x, y = (jnp.asarray(array) for array in data(setting))
    scales = [1 / math.sqrt(fan) for fan in setting.fans]

    def first_fields(weights):
        return (weights.reshape(-1, setting.inputs) @ x.T).reshape(*weights.shape[:2], -1)

    def slope(field):
        return (2 / math.sqrt(math.pi)) * jnp.exp(-(field**2))

    def gradient(layers):
        *weights, readout = (scale * layer for scale, layer in zip(scales, layers, strict=True))
        fields = [first_fields(weights[0])]
        for weight in weights[1:]:
            fields.append(weight @ special.erf(fields[-1]))
        signals = [special.erf(field) for field in fields]
        residual = jnp.einsum("ci,cin->cn", readout, signals[-1]) - y
        slopes = [jnp.einsum("cin,cn->ci", signals[-1], residual)]
        delta = readout[:, :, None] * residual[:, None] * slope(fields[-1])
        for level in range(len(weights) - 1, 0, -1):
            slopes.insert(0, delta @ signals[level - 1].transpose(0, 2, 1))
            delta = (weights[level].transpose(0, 2, 1) @ delta) * slope(fields[level - 1])
        flat = delta.reshape(-1, setting.points) @ x
        slopes.insert(0, flat.reshape(weights[0].shape))
        return tuple(
            layer + scale / TEMPERATURE * part
            for layer, scale, part in zip(layers, scales, slopes, strict=True)
        )

    return jax_chains(setting, gradient)


def blackjax_sgld(setting: Setting):
    """blackjax.sgld on the whole data, all chains at once by jax.vmap."""
    jax, jnp, _ = jax_modules()
    blackjax = importlib.import_module("blackjax")
    batch = tuple(jnp.asarray(array) for array in data(setting))

    def estimate(layers, batch):
        slopes = jax.grad(jax_energy(setting, *batch))(layers)
        return jax.tree.map(jnp.negative, slopes)

    sampler = blackjax.sgld(estimate)

    def step(key, layers):
        keys = jax.random.split(key, setting.chains)
        return jax.vmap(lambda key, z: sampler.step(key, z, batch, STEP_SIZE))(keys, layers)

    gradient = jax.vmap(jax.grad(jax_energy(setting, *batch)))
    return jax_chains(setting, gradient, step)


def posteriors_sgld(setting: Setting):
    """posteriors.sgmcmc.sgld, all chains at once by torch.func.vmap."""
    torch = importlib.import_module("torch")
    posteriors = importlib.import_module("posteriors")
    torch.set_num_threads(1)
    x, y = (torch.from_numpy(array) for array in data(setting))
    layers = {str(level): torch.from_numpy(z) for level, z in enumerate(start(setting))}

    def log_posterior(layers, batch):
        x, y = batch
        *weights, readout = layers.values()
        signal = x
        for layer, fan in zip(weights, setting.fans, strict=False):
            signal = torch.erf(signal @ layer.T / math.sqrt(fan))
        residual = signal @ readout / math.sqrt(setting.fans[-1]) - y
        prior = sum(layer.square().sum() for layer in layers.values())
        return -prior / 2 - residual.square().sum() / (2 * TEMPERATURE), torch.tensor([])

    sampler = posteriors.sgmcmc.sgld.build(log_posterior, lr=STEP_SIZE)
    update = torch.func.vmap(lambda state: sampler.update(state, (x, y))[0], randomness="different")
    state = torch.func.vmap(sampler.init)(layers)

    def run(steps):
        nonlocal state
        for _ in range(steps):
            state = update(state)

    def gradient():
        slope = torch.func.grad(lambda z: -log_posterior(z, (x, y))[0])
        return tuple(torch.func.vmap(slope)(layers).values())

    return serving.Chains(gradient, run)


if __name__ == "__main__":
    contestants = {
        "jax vmap": (jax_vmap, ["jax", "jaxlib"]),
        "jax by hand": (jax_by_hand, ["jax", "jaxlib"]),
        "blackjax": (blackjax_sgld, ["blackjax", "jax"]),
        "posteriors": (posteriors_sgld, ["posteriors", "torch"]),
    }
    serving.serve(*contestants[sys.argv[1]])
