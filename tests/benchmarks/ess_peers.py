"""blackjax in an environment of its own (see peers.txt), in coordinates whitened by the prior.

They are imported by name, since nothing else here may depend on them. Chains run one after another
in one compiled loop: on one thread that takes less time than all at once, and a chain of NUTS
need not wait for the longest trajectory. Steps are adapted by blackjax on one chain from a learned
state. The metric is the identity: one adapted to the draws did no better.
"""

import importlib
import math
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from ess_problem import CHAINS, INPUTS, NEURONS, POINTS, WIDTH, Array, data
from ess_serving import Chains, serve

jax, jnp, special, linalg, blackjax = (
    importlib.import_module(name)
    for name in ("jax", "jax.numpy", "jax.scipy.special", "jax.scipy.linalg", "blackjax")
)

HIDDEN, SIZE = WIDTH * INPUTS, WIDTH * (INPUTS + 1)
ADAPTATION, FIRST_STEP = 300, 0.05  # draws
FROZEN = 1e9  # draws that the metric's first value counts for
ACCEPTED = 0.65  # of the proposals of HMC: Beskos et al. (2013)
LEAPS = {"short": {0.1: 15, 0.01: 60}, "long": {0.1: 30, 0.01: 120}, "φ": {0.1: 10, 0.01: 15}}
TUNING = 10_000  # steps that MCLMC is told of; it tunes itself on three tenths of them
X, Y = (jnp.asarray(array) for array in data())

Density = Callable[[Any], Any]


def outputs(z):
    """f of one chain at the points and the probes."""
    weights = z[:HIDDEN].reshape(WIDTH, INPUTS) / math.sqrt(INPUTS)
    return special.erf(X @ weights.T) @ z[HIDDEN:] / math.sqrt(WIDTH)


def posterior(temperature: float) -> Density:
    """-U of z."""

    def density(z):
        weights = z[:HIDDEN].reshape(WIDTH, INPUTS) / math.sqrt(INPUTS)
        f = special.erf(X[:POINTS] @ weights.T) @ z[HIDDEN:] / math.sqrt(WIDTH)
        return -(z @ z) / 2 - ((f - Y[:POINTS]) ** 2).sum() / (2 * temperature)

    return density


def given_hidden(z, temperature: float):
    """L of the readout's precision L Lᵀ given the hidden weights, and L⁻¹ Φᵀy/T."""
    weights = z[:HIDDEN].reshape(WIDTH, INPUTS) / math.sqrt(INPUTS)
    features = special.erf(X[:POINTS] @ weights.T) / math.sqrt(WIDTH)
    factor = jnp.linalg.cholesky(jnp.eye(WIDTH) + features.T @ features / temperature)
    evidence = features.T @ Y[:POINTS] / temperature
    return factor, linalg.solve_triangular(factor, evidence, lower=True)


def reparametrized(temperature: float) -> Density:
    """-U of the hidden weights and of φ = Lᵀ(a - E a), which is N(0, 1) given them."""

    def density(phi):
        factor, evidence = given_hidden(phi, temperature)
        return evidence @ evidence / 2 - jnp.log(jnp.diag(factor)).sum() - phi @ phi / 2

    return density


def readout(phi, temperature: float):
    """z of hidden weights and φ."""
    factor, evidence = given_hidden(phi, temperature)
    solved = linalg.solve_triangular(factor.T, evidence + phi[HIDDEN:], lower=False)
    return jnp.concatenate([phi[:HIDDEN], solved])


def observed(z):
    """What is seen of a draw, (quantity,): outputs, train error, mean (w·w*)², w·w*."""
    f = outputs(z)
    along = z[:HIDDEN].reshape(WIDTH, INPUTS)[:, 0] / math.sqrt(INPUTS)
    means = jnp.stack([((f - Y) ** 2)[:POINTS].mean(), (along**2).mean()])
    return jnp.concatenate([f[POINTS:], means, along[:NEURONS]])


def chains(draw, states, many: int, text: str, whiten=lambda position: position) -> Chains:
    """An ensemble of draw(key, state) -> (state, gradients), `many` draws at a time."""
    key, gradients = jax.random.key(1), 0

    @jax.jit
    def advance(key, states):
        def across(states, key):
            keys = jax.random.split(key, CHAINS)
            states, made = jax.lax.map(lambda both: draw(*both), (keys, states))
            return states, (states.position, made.sum())

        return jax.lax.scan(across, states, jax.random.split(key, many))

    @jax.jit
    def observe(positions):
        return jax.lax.map(jax.vmap(lambda z: observed(whiten(z))), positions)

    def several():
        nonlocal key, states, gradients
        key, now = jax.random.split(key)
        states, (positions, made) = advance(now, states)
        gradients += int(made.sum())
        return positions

    return Chains(
        text,
        lambda: gradients,
        several,
        lambda drawn: np.asarray(observe(drawn)).swapaxes(0, 1),
        lambda drawn: np.asarray(drawn[-1]),
    )


def adapted(algorithm, density: Density, start, **settings):
    """The algorithm with a step that blackjax has adapted from a start, and the step."""
    acceptance = settings.pop("target_acceptance_rate")
    adaptation = blackjax.window_adaptation(
        algorithm,
        density,
        initial_inverse_mass_matrix=jnp.ones(SIZE),
        imm_shrinkage_to_previous=FROZEN,
        initial_step_size=FIRST_STEP,
        target_acceptance_rate=acceptance,
        adaptation_info_fn=lambda *_: None,
        **settings,
    )
    (_, found), _ = jax.jit(lambda key, z: adaptation.run(key, z, ADAPTATION))(
        jax.random.key(2), start
    )
    return algorithm(density, **found), float(found["step_size"])


def hamiltonian(algorithm, density: Density, start, many: int, whiten=None, **settings) -> Chains:
    """HMC or NUTS."""
    sampler, step_size = adapted(algorithm, density, start[0], **settings)
    leaps = settings.get("num_integration_steps")
    text = f"ε = {step_size:.2g}" if leaps is None else f"{leaps} steps of {step_size:.2g}"

    def draw(key, state):
        state, info = sampler.step(key, state)
        return state, jnp.asarray(info.num_integration_steps)

    states = jax.vmap(sampler.init)(start)
    return chains(draw, states, many, text, whiten or (lambda position: position))


def hmc(length: str):
    """HMC of a fixed number of leapfrog steps: short suits the outputs, long the weights."""

    def prepare(temperature: float, start: Array | None, _: int) -> Chains:
        return hamiltonian(
            blackjax.hmc,
            posterior(temperature),
            jnp.asarray(start),
            20,
            num_integration_steps=LEAPS[length][temperature],
            target_acceptance_rate=ACCEPTED,
        )

    return prepare


def nuts(temperature: float, start: Array | None, _: int) -> Chains:
    """NUTS, with the acceptance that it is given by default."""
    density = posterior(temperature)
    return hamiltonian(blackjax.nuts, density, jnp.asarray(start), 4, target_acceptance_rate=0.8)


def repriorized(temperature: float, start: Array | None, _: int) -> Chains:
    """HMC in the coordinates of Hron et al. (2022), where wide networks have their prior's law."""
    assert start is not None
    fresh = np.random.default_rng(1).standard_normal((CHAINS, WIDTH), dtype=np.float32)
    return hamiltonian(
        blackjax.hmc,
        reparametrized(temperature),
        jnp.concatenate([start[:, :HIDDEN], fresh], axis=1),
        4,
        lambda phi: readout(phi, temperature),
        num_integration_steps=LEAPS["φ"][temperature],
        target_acceptance_rate=0.8,
    )


@lru_cache
def tuned(temperature: float, start: bytes) -> tuple[float, float]:
    """L and ε of MCLMC, by the tuning that blackjax has for it."""
    density = posterior(temperature)
    position = jnp.asarray(np.frombuffer(start, dtype=np.float32))
    _, found, _ = blackjax.mclmc_find_L_and_step_size(
        mclmc_kernel=blackjax.mclmc.build_kernel(),
        num_steps=TUNING,
        state=blackjax.mclmc.init(position, density, jax.random.key(3)),
        rng_key=jax.random.key(4),
        logdensity_fn=density,
        diagonal_preconditioning=False,
    )
    return float(found.L), float(found.step_size)


def mclmc(temperature: float, start: Array | None, halvings: int) -> Chains:
    """Microcanonical Langevin: two gradients a step, and a draw after each eight."""
    assert start is not None
    density, kernel, thin = posterior(temperature), blackjax.mclmc.build_kernel(), 8
    length, step_size = tuned(temperature, start[0].tobytes())
    step_size *= 0.5**halvings

    def draw(key, state):
        def step(index, state):
            return kernel(
                rng_key=jax.random.fold_in(key, index),
                state=state,
                logdensity_fn=density,
                inverse_mass_matrix=jnp.ones(SIZE),
                L=length,
                step_size=step_size,
            )[0]

        return jax.lax.fori_loop(0, thin, step, state), jnp.asarray(2 * thin)

    states = jax.vmap(lambda z, key: blackjax.mclmc.init(z, density, key))(
        jnp.asarray(start), jax.random.split(jax.random.key(5), CHAINS)
    )
    return chains(draw, states, 10, f"ε = {step_size:.2g}, L = {length:.2g}")


if __name__ == "__main__":
    contestants = {
        "nuts": nuts,
        "hmc short": hmc("short"),
        "hmc long": hmc("long"),
        "mclmc": mclmc,
        "repriorized": repriorized,
    }
    serve(contestants[sys.argv[1]], ["blackjax", "jax"])
