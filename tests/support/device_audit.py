"""What code would do on a GPU, found without one: torch's meta device stands for it.

Tensors there have shapes and no numbers. Whatever needs a number, which on a GPU waits for all that
was launched, is answered with a one and written down as a synchronization.
"""

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.fx.experimental._config as shapes
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = str(Path(__file__).resolve().parent.parent / "workers")
DEVICE = "meta"
# What launches no kernel: views, and memory that is not written.
FREE = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "empty",
    "empty_like", "empty_strided", "expand", "lift_fresh", "movedim", "narrow", "new_empty",
    "new_empty_strided", "permute", "select", "slice", "split", "split_with_sizes", "squeeze",
    "t", "transpose", "unbind", "unflatten", "unsqueeze", "view",
}  # fmt: skip
SIZED_BY_VALUES = {"nonzero", "masked_select", "_unique2"}
LARGE = 64  # numbers of an array that is counted as one of float64


class MixedDevicesError(Exception):
    """An operation was given arrays on the device and arrays on the CPU."""


class Audit(TorchDispatchMode):
    """Counts what operations on the device would cost, by the line of workers/ that asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.synchronizations: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()  # between the CPU and the device
        self.doubles: Counter[str] = Counter()  # outputs of float64
        self.largest = 0  # numbers that came home at once

    def __enter__(self) -> "Audit":
        self._settings = shapes.patch(meta_nonzero_assume_all_nonzero=True)
        self._settings.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._settings.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        kinds = {tensor.device.type for tensor in given}
        if name in ("_to_copy", "copy_"):
            return self._copied(func, name, given, args, kwargs)
        if len({tensor.device.type for tensor in given if tensor.ndim}) > 1:
            raise MixedDevicesError(f"{name} at {place()}")
        if DEVICE not in kinds:
            return self._counted(name, func(*args, **kwargs))
        if name == "_local_scalar_dense":
            self.synchronizations[place()] += 1
            return given[0].dtype == torch.bool or 1
        masked = name.startswith("index") and any(t.dtype == torch.bool for t in given[1:])
        if masked or name in SIZED_BY_VALUES:
            self.synchronizations[f"{name} at {place()}"] += 1
        return self._counted(name, func(*args, **kwargs))

    def _copied(self, func: Any, name: str, given: list[Tensor], args: Any, kwargs: Any) -> Any:
        """To a dtype, to the device, or home: what comes home waits, and is all ones."""
        source = given[-1] if name == "copy_" else given[0]
        wanted = given[0].device if name == "copy_" else kwargs.get("device") or source.device
        if torch.device(wanted).type == source.device.type:
            return self._counted(name, func(*args, **kwargs))
        self.copies[place()] += 1
        if source.device.type != DEVICE:
            return func(*args, **kwargs)
        self.synchronizations[place()] += 1
        self.largest = max(self.largest, source.numel())
        if name == "copy_":
            return given[0].fill_(1)
        dtype = kwargs.get("dtype") or source.dtype
        return torch.ones(source.shape, dtype=dtype, device=wanted)

    def _counted(self, name: str, out: Any) -> Any:
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if name not in FREE and any(tensor.device.type == DEVICE for tensor in made):
            self.launches[name] += 1
            if any(t.dtype == torch.float64 and t.numel() > LARGE for t in made):
                self.doubles[name] += 1
        return out


def place() -> str:
    """The innermost line of workers/ that is being run."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(ROOT):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return "elsewhere"
