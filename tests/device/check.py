"""Everything that only a GPU can say, in one run of a few minutes: `make device`.

Needs torch, triton, numpy and scipy, and PYTHONPATH at the root of this checkout. It prints a
table, writes what it found as JSON, and ends with status 1 where numbers are wrong. With --tiny and
TRITON_INTERPRET=1 it runs on a CPU, which shows that the script works, and says nothing of a GPU.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from theory.finite_width.scale_mixture import linear_posterior
from theory.kernels.fully_connected import nngp_and_ntk
from theory.regression.learning_curve import LearningCurve, learning_curve
from workers import philox
from workers.devices.graphs import Steps
from workers.networks import networks
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import Network, fully_connected
from workers.sampler import Gradient
from workers.samplers.baoab import baoab
from workers.triton import noise
from workers.triton.activations import UNITS
from workers.triton.network import has_kernel, potential

ARGUMENTS = argparse.ArgumentParser(description=__doc__)
ARGUMENTS.add_argument("--tiny", action="store_true", help="small sizes on a CPU")
ARGUMENTS.add_argument("--json", default="device.json", metavar="FILE", help="what was found")
ARGUMENTS.add_argument("--seconds", type=float, default=420, help="begin no part after so many")

EXACT = 2e-6  # relative, of a gradient in float32
TF32 = 2e-3  # of one whose last product is of tf32, which has ten bits
ERRORS, BIAS = 5.0, 0.003  # standard errors and relative bias that a mean square may be off by
CAPTURED = 10  # steps of a graph
STAGES = 8  # of which the last is measured; in the first half chains fall, without inertia
HEAVY, FRICTION = 1e9, 5.0  # one leaves nothing of a momentum, one little in a hundred steps
STABLE = 0.8  # of 2, in units of the stiffest period


class Setting(NamedTuple):
    """As in tests/benchmarks/settings.py; bound and aim of a step are in microseconds."""

    chains: int
    inputs: int
    widths: tuple[int, ...]
    points: int
    bound: float
    aim: float | None


SETTINGS = {
    "A": Setting(16, 50, (1000,), 1000, 53, 105),
    "B": Setting(8, 150, (700,), 3000, 101, 200),
    "C": Setting(512, 20, (100,), 200, 26, 50),
    "D": Setting(32, 50, (200, 200), 500, 40, None),
}
TINY = {
    name: SETTINGS[name]._replace(chains=2, widths=widths, points=30)
    for name, widths in (("A", (20,)), ("D", (20, 20)))
}


class Machine(NamedTuple):
    """Where the check runs, and how large."""

    device: str
    tiny: bool

    def normals(self, seed: int, rows: int, size: int, dtype: torch.dtype) -> Tensor:
        """(row, size)."""
        return philox.Noise(seed, range(rows), 0)(0, (size,), dtype).to(self.device)

    def seconds(self, act: Callable[[], Any], repeats: int = 5) -> float:
        """The median time of an act, after two that warm up."""
        times = []
        for _ in range(2 if self.tiny else repeats + 2):
            self.wait()
            began = time.perf_counter()
            act()
            self.wait()
            times.append(time.perf_counter() - began)
        return statistics.median(times[1:] if self.tiny else times[2:])

    def wait(self) -> None:
        """Until all that was launched is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def problem(
    machine: Machine, setting: Setting, activation: str = "erf", bias: float = 0.0
) -> tuple[Network, Tensor, Tensor, Tensor]:
    """A network, x, y and whitened positions z, float32."""
    network = fully_connected(
        setting.inputs,
        setting.widths,
        ACTIVATIONS[activation],
        weight_variance=[1.0] * (len(setting.widths) + 1),
        bias_variance=bias,
        chi=1.0,
    )
    x = machine.normals(1, setting.points, setting.inputs, torch.float32)
    y = machine.normals(2, 1, setting.points, torch.float32)[0]
    return network, x, y, machine.normals(3, setting.chains, network.size, torch.float32)


# -- what must hold -------------------------------------------------------------------------


def bits(machine: Machine) -> dict[str, Any]:
    """Normals of a CPU, of torch on the device and of Triton: the same to the last bit."""
    found = {}
    elements = 300 if machine.tiny else 100_003
    for dtype, integer in philox.INTEGER.items():
        here = philox.Noise(7, [0, 5, 77], 3)(12, (elements,), dtype).view(integer)
        kinds = {"torch": philox.Noise, "triton": noise.Noise}
        for name, kind in kinds.items():
            there = kind(7, [0, 5, 77], 3, machine.device)(12, (elements,), dtype)
            found[f"{name} {dtype}"] = torch.equal(there.cpu().view(integer), here)
    return {"ok": all(found.values()), **found}


def gradients(machine: Machine) -> dict[str, Any]:
    """Relative error of energies and gradients against float64 on the CPU, each activation."""
    setting = Setting(4, 20, (100,), 130, 0, None)
    allowed = EXACT if machine.tiny else TF32  # the interpreter multiplies in float32
    found: dict[str, Any] = {}
    for activation in list(UNITS)[: 1 if machine.tiny else None]:
        for bias in (0.0, 0.3):
            network, x, y, z = problem(machine, setting, activation, bias)
            exact = networks.potential(network, x.double().cpu(), y.double().cpu(), 0.1)
            energy, slope = exact(z.double().cpu())
            for name, make, limit in (
                ("torch", networks.potential, EXACT),
                ("triton", potential, allowed),
            ):
                kept, found_slope = (part.double().cpu() for part in make(network, x, y, 0.1)(z))
                errors = (
                    float(((kept - energy) / energy).abs().max()),
                    float((found_slope - slope).norm() / slope.norm()),
                )
                ok = errors[0] <= EXACT and errors[1] <= limit
                found[f"{name} {activation} {bias}"] = {
                    "energy": errors[0],
                    "slope": errors[1],
                    "ok": ok,
                }
    return {"ok": all(each["ok"] for each in found.values()), **found}


def repeats(machine: Machine) -> dict[str, Any]:
    """The same bits again and again, and beside other chains."""
    found = {}
    for name, setting in (TINY if machine.tiny else SETTINGS).items():
        network, x, y, z = problem(machine, setting)
        if not has_kernel(network, x):
            continue
        gradient = potential(network, x, y, 0.1)
        first = gradient(z)
        again = [gradient(z) for _ in range(1 if machine.tiny else 20)]
        found[f"{name} again"] = all(_same(first, other) for other in again)
        half = tuple(part[: len(z) // 2] for part in first)
        found[f"{name} packed"] = _same(half, gradient(z[: len(z) // 2].contiguous()))
    return {"ok": all(found.values()), **found}


def _same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def posterior(machine: Machine) -> dict[str, Any]:
    """Mean square of training residuals of a linear network beside its exact posterior."""
    n, chains, kept = (10, 3, 1) if machine.tiny else (200, 64, 2000)
    setting = Setting(chains, n // 10 if machine.tiny else 20, (n,), n, 0, None)
    found: dict[str, Any] = {}
    for temperature in (0.1,) if machine.tiny else (0.1, 1e-3):
        network, x, _, z = problem(machine, setting, "linear")
        teacher = machine.normals(5, 1, setting.inputs, torch.float32)[0]
        y = x @ (teacher / teacher.norm())
        kernel = (x.double() @ x.double().T / setting.inputs).cpu()
        exact = linear_posterior(
            kernel, kernel, kernel.diagonal(), y.double().cpu(), temperature, n
        )
        target = float(((exact.mean - y.double().cpu()).square() + exact.variance).mean())
        errors = _residuals(machine, network, x, y, z, temperature, kept)
        mean, error = float(errors.mean()), float(errors.std() / len(errors) ** 0.5)
        ok = machine.tiny or abs(mean - target) <= ERRORS * error + BIAS * target
        found[f"T = {temperature:g}"] = {"exact": target, "mse": mean, "error": error, "ok": ok}
    return {"ok": all(each["ok"] for each in found.values()), **found}


def _residuals(
    machine: Machine,
    network: Network,
    x: Tensor,
    y: Tensor,
    z: Tensor,
    temperature: float,
    kept: int,
) -> Tensor:
    """The mean square residual of each chain over its draws, every fifth step."""
    gradient = potential(network, x, y, temperature)
    normals = noise.Noise(6, range(len(z)), 1, machine.device)
    made, state = 0, baoab(gradient, 1.0, 1.0).init(z, normals.at(0))
    total, draws = torch.zeros(len(z), dtype=torch.float64, device=machine.device), 0
    widths = network.standard_deviations.to(x)
    for stage in range(STAGES):
        step = STABLE / _stiffness(gradient, state.position) ** 0.5
        sampler = baoab(gradient, step, HEAVY if stage < STAGES // 2 else FRICTION)
        last = stage == STAGES - 1
        for _ in range(kept if last else -(-kept // 4)):
            made += 1
            state = sampler.step(state, normals.at(made))
            if last and made % 5 == 0:
                outputs = network.outputs(state.position * widths, x).double()
                total += (outputs - y).square().mean(1)
                draws += 1
    return (total / max(draws, 1)).cpu()


def _stiffness(gradient: Gradient, z: Tensor) -> float:
    """The largest curvature of U at z, by the power method."""
    base, vector = gradient(z)[1], torch.ones_like(z)
    size = 1.0
    for _ in range(12):
        vector = vector / vector.norm(dim=1, keepdim=True)
        vector = (gradient(z + 0.1 * vector)[1] - base) / 0.1
        size = float(vector.norm(dim=1).max())
    return max(size, 1.0)


# -- how fast -------------------------------------------------------------------------------


def speeds(machine: Machine) -> dict[str, Any]:
    """Microseconds of a step of BAOAB: torch, in graphs, fused in graphs, and compiled."""
    found = {}
    for name, setting in (TINY if machine.tiny else SETTINGS).items():
        network, x, y, z = problem(machine, setting)
        plain, fused = networks.potential(network, x, y, 1.0), potential(network, x, y, 1.0)
        each = {
            "torch": _step(machine, plain, z, captured=False),
            "torch in graphs": _step(machine, plain, z, captured=True),
            "fused" if has_kernel(network, x) else "no kernel": _step(machine, fused, z, True),
            "bound": setting.bound,
            "aim": setting.aim,
        }
        if not machine.tiny:
            each["compiled gradient"] = _compiled(machine, plain, z)
        found[name] = each
    size = 64 if machine.tiny else 8192
    square = torch.ones(size, size, device=machine.device)
    found["product of matrices, TFLOP/s"] = (
        2e-12 * size**3 / machine.seconds(lambda: square @ square)
    )
    return {"ok": True, **found}


def _step(machine: Machine, gradient: Gradient, z: Tensor, captured: bool) -> float:
    """Microseconds."""
    sampler, normals = baoab(gradient, 1e-6, 1.0), noise.Noise(4, range(len(z)), 1, machine.device)
    state = sampler.init(z, normals.at(0))
    if captured and machine.device == "cuda":
        steps = Steps(sampler, normals, CAPTURED, state)
        return 1e6 * machine.seconds(lambda: steps(steps(state, 1), 1 + CAPTURED)) / (2 * CAPTURED)

    def act() -> None:
        now = state
        for step in range(2):
            now = sampler.step(now, normals.at(step + 1))

    return 1e6 * machine.seconds(act) / 2


def _compiled(machine: Machine, gradient: Gradient, z: Tensor) -> float | str:
    """Of a gradient by torch.compile, which is no part of the product; or why there is none."""
    try:
        made = torch.compile(gradient, mode="max-autotune-no-cudagraphs")
        return 1e6 * machine.seconds(lambda: made(z))
    except Exception as error:  # noqa: BLE001  whatever stops it is what is to be told
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"


def regression(machine: Machine) -> dict[str, Any]:
    """Kernels, a solve and a decomposition of 10,000 points by torch, held against the CPU's."""
    n, few = (60, 20) if machine.tiny else (10_000, 500)
    x = machine.normals(8, n, 20 if machine.tiny else 784, torch.float64)
    network: dict[str, Any] = {
        "depth": 3,
        "activation": "erf",
        "weight_variance": [1.0] * 4,
        "bias_variance": 0.1,
        "tile": 32 if machine.tiny else None,
    }
    both = nngp_and_ntk(x, **network)
    here = nngp_and_ntk(x[:few].cpu(), **network)
    kernel, y = both.nngp, machine.normals(9, 1, n, torch.float64)[0, :, None]
    error = float((kernel[:few, :few].cpu() - here.nngp).abs().max())
    ridged = kernel.clone()
    ridged.diagonal().add_(0.1)
    solved = _solved(ridged, y)
    residual = float((ridged @ solved - y).norm() / y.norm())
    values, vectors = torch.linalg.eigh(kernel)
    orthogonal = float((vectors.T @ vectors - torch.eye(n, device=x.device)).abs().max())
    decomposed = float((kernel @ vectors - vectors * values).norm() / kernel.norm())
    sizes = [(place + 1) * few // 20 for place in range(20)] if machine.tiny else CURVE
    order, told = torch.randperm(n, generator=torch.Generator().manual_seed(1)), list[str]()

    def curve(matrix: Tensor, upto: int) -> LearningCurve:
        some = sizes[:upto]
        return learning_curve(matrix, y.cpu(), order, some, RIDGES, tell=told.append)

    whole, some = curve(kernel, len(sizes)), curve(kernel.cpu(), 3)
    apart = float((whole.posterior_variance[:3] / some.posterior_variance - 1).abs().max())
    return {
        "ok": max(error, residual, orthogonal, decomposed, apart) < 1e-9 and not told,
        "points": n,
        "error of the kernel": error,
        "residual of the solve": residual,
        "residual of the decomposition": decomposed,
        "eigenvectors from orthogonal": orthogonal,
        "variance of a curve from the CPU's": apart,
        "done again on the CPU": len(told),
        "20 sizes and 4 ridges, s": machine.seconds(lambda: curve(kernel, len(sizes)), 1),
        "NNGP and NTK, s": machine.seconds(lambda: nngp_and_ntk(x, **network), 2),
        "solve, s": machine.seconds(lambda: _solved(ridged, y), 2),
        "decomposition, s": machine.seconds(lambda: torch.linalg.eigh(kernel), 1),
    }


CURVE = [100 * (place + 1) for place in range(19)] + [8000]  # training points
RIDGES = [0.1, 0.3, 1.0, 3.0]


def _solved(matrix: Tensor, y: Tensor) -> Tensor:
    return torch.cholesky_solve(y, torch.linalg.cholesky(matrix))


PARTS = (bits, gradients, repeats, posterior, speeds, regression)


def main() -> int:
    """Run all parts; the status of the process."""
    asked = ARGUMENTS.parse_args()
    if not asked.tiny and not torch.cuda.is_available():
        print("no GPU is found by torch; --tiny shows that the script works")
        return 2
    machine = Machine("cpu" if asked.tiny else "cuda", asked.tiny)
    name = "cpu" if asked.tiny else torch.cuda.get_device_name()
    found: dict[str, Any] = {"device": name, "torch": torch.__version__}
    torch.backends.cuda.matmul.allow_tf32 = False
    began = time.monotonic()
    for part in PARTS:
        if time.monotonic() - began > asked.seconds:
            found[part.__name__] = {"ok": True, "skipped": "no time was left"}
            continue
        if machine.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started = time.monotonic()
        try:
            each = part(machine)
        except Exception as error:  # noqa: BLE001  the other parts must be told, too
            each = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        each["seconds"] = round(time.monotonic() - started, 1)
        if machine.device == "cuda":
            each["peak memory, GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found[part.__name__] = each
        Path(asked.json).write_text(json.dumps(found, indent=1))
        show(part.__name__, each)
    return 0 if all(found[part.__name__]["ok"] for part in PARTS) else 1


def show(name: str, found: dict[str, Any]) -> None:
    """A part as lines of a table."""
    print(f"\n{name}: {'ok' if found['ok'] else 'WRONG'}")
    for key, value in found.items():
        if key == "ok":
            continue
        shown = value if isinstance(value, dict) else {"": value}
        cells = (f"{inner} {_number(each)}".strip() for inner, each in shown.items())
        print(f"  {key:32} {'  '.join(cells)}", flush=True)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
