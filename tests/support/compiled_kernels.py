"""Kernels of workers/triton compiled for GPUs that need not be there, and what came of it.

`python tests/support/compiled_kernels.py` prints the table of tests/benchmarks/GPU.md; with --json
a list of names it prints what it found of these. TRITON_INTERPRET must not be set.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from workers.triton import gradient, noise, philox
from workers.triton.network import tiles_of

TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
POINTERS = ("z", "x", "y", "parts", "slope", "pieces", "energy")
WHOLE = ("size", "width", "d", "elements")
OPERATION = re.compile(r"/\*[0-9a-f]{4}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)")


class Case(NamedTuple):
    """A kernel of a network of a setting, or noise, for GPUs of a compute capability."""

    function: str
    target: int
    activation: str = "erf"
    biased: bool = False
    inputs: int = 50
    width: int = 1000
    points: int = 1000


CASES = {
    "noise": Case("float32", 90),
    "noise, float64": Case("float64", 90),
    "forward": Case("forward", 90),
    "backward": Case("backward", 90),
    "backward, gelu and biases": Case("backward", 90, "gelu", True),
    "backward, tanh and biases": Case("backward", 90, "tanh", True),
    "backward, 20 inputs": Case("backward", 90, inputs=20, width=100, points=200),
    "forward, sm_80": Case("forward", 80),
    "backward, sm_80": Case("backward", 80),
    "forward, sm_89": Case("forward", 89),
    "backward, sm_89": Case("backward", 89),
}


def found(case: Case) -> dict[str, Any]:
    """What a compiled kernel needs, and how it computes."""
    kernel = _noise(case) if case.function.startswith("float") else _gradient(case)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        code, used = _told("--dump-sass", file.name), _told("--dump-resource-usage", file.name)
    operations = Counter(OPERATION.findall(code))
    return {
        "registers": int(re.findall(r"REG:(\d+)", used)[0]),
        "shared": kernel.metadata.shared,
        "spills": operations["LDL"] + operations["STL"],
        "tensor": operations["HGMMA"] + operations["HMMA"],
        "fused": len(re.findall(r"\bfma\.rn", kernel.asm["ptx"])),
        "roots": sorted(set(re.findall(r"\b(?:sqrt|div)\.[a-z.]+f(?:32|64)", kernel.asm["ptx"]))),
    }


def _told(*arguments: str) -> str:
    run = subprocess.run([str(TOOL), *arguments], capture_output=True, text=True, check=True)
    return run.stdout + run.stderr


def _gradient(case: Case) -> Any:
    tiles = tiles_of(case.target // 10)
    constants = {
        "POINTS": case.points,
        "BIASED": case.biased,
        "PHI": case.activation,
        "NEURONS": tiles.neurons,
        "SLICE": tiles.points,
        "COLUMNS": triton.next_power_of_2(case.inputs),
    }
    if case.function == "backward":
        constants["TILES"] = -(-case.width // tiles.neurons)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    return _compiled(getattr(gradient, case.function), constants, case.target, options)


def _noise(case: Case) -> Any:
    dtype = getattr(torch, case.function)
    constants = {**noise.constants(dtype), "BLOCKS": noise.BLOCKS}
    options = {"num_warps": noise.WARPS, "enable_fp_fusion": False}
    pointers = {"out": f"*fp{8 * dtype.itemsize}"}
    pointers |= dict.fromkeys(("chains", "words", "step"), "*i64")
    return _compiled(philox.normals, constants, case.target, options, pointers)


def _compiled(
    function: Any,
    constants: Mapping[str, Any],
    target: int,
    options: Mapping[str, Any],
    types: Mapping[str, str] | None = None,
) -> Any:
    known = {**dict.fromkeys(POINTERS, "*fp32"), **dict.fromkeys(WHOLE, "i32"), **(types or {})}
    known |= dict.fromkeys(constants, "constexpr")
    names = function.arg_names
    signature = {name: known.get(name, "fp32") for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=function, signature=signature, constexprs=places)
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=dict(options))


def table() -> str:
    """Markdown."""
    lines = [
        "| kernel | GPU | registers | shared memory | spills | tensor-core instructions |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        each = found(case)
        shared = f"{each['shared'] / 1024:.0f} KiB"
        cells = (name.partition(", sm")[0], f"sm_{case.target}", each["registers"], shared)
        lines.append("| " + " | ".join(map(str, (*cells, each["spills"], each["tensor"]))) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps({name: found(CASES[name]) for name in sys.argv[2:]}))
    else:
        print(table())
