"""Records where code waits for the device.

A wait is a read of a fake CUDA tensor's numbers, which are zeros, and a copy between devices that is not asynchronous:
one without `non_blocking`, or from or to memory that is not pinned. An index that is a list is such a copy, too.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).parents[2]

_dispatch = FakeTensorMode.dispatch


def pin_memory(tensor: Tensor) -> Tensor:
    """In place of `Tensor.pin_memory`, which needs a GPU."""
    copy = tensor.clone()
    vars(copy)["pinned"] = True
    return copy


class Transfers(TorchFunctionMode):
    """Counts waits for the device by the function that causes them, as `resonance/engine/sampler.py: sample`."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()

    def __enter__(self) -> Self:
        def dispatch(mode: FakeTensorMode, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if _copies_and_waits(func, args, kwargs or {}):
                self.places[_caller()] += 1
            return _dispatch(mode, func, types, args, kwargs)

        self._patches = [
            patch.object(FakeTensor, "tolist", Tensor.tolist),  # its own reads number by number
            patch.object(FakeTensorMode, "dispatch", dispatch),
        ]
        for each in self._patches:
            each.start()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for each in self._patches:
            each.stop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        reads = READS.get(func)
        if reads is None or not isinstance(args[0], Tensor) or args[0].device.type != "cuda":
            return func(*args, **kwargs)
        result = reads(*args, **kwargs)
        if result is NotImplemented:
            return func(*args, **kwargs)
        self.places[_caller()] += 1
        return result


def _zeros(tensor: Tensor, *args: object, **kwargs: object) -> Any:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")


def _list(tensor: Tensor) -> Any:
    nested: Any = 0.0 if tensor.is_floating_point() else 0
    for size in reversed(tensor.shape):
        nested = [nested] * size
    return nested


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    targets = [*args, kwargs.get("device")]
    to_cpu = any(isinstance(t, str | torch.device) and torch.device(t).type == "cpu" for t in targets)
    return _zeros(tensor) if to_cpu else NotImplemented


READS: dict[Callable[..., Any], Callable[..., Any]] = {
    Tensor.tolist: _list,
    Tensor.item: lambda tensor: _list(tensor.reshape(())),
    Tensor.__bool__: lambda tensor: False,
    Tensor.__int__: lambda tensor: 0,
    Tensor.__float__: lambda tensor: 0.0,
    Tensor.__index__: lambda tensor: 0,
    Tensor.cpu: _zeros,
    Tensor.to: _to,
}


def _copies_and_waits(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    aten = torch.ops.aten
    if func is aten._to_copy.default:  # `to`, `torch.tensor(..., device="cuda")`, and an index that is a list
        to_device = torch.device(kwargs.get("device") or "cpu").type == "cuda"
        return to_device and args[0].device.type == "cpu" and not _is_asynchronous(args[0], kwargs.get("non_blocking"))
    if func is aten.copy_.default:
        target, source, *rest = args
        on_cpu = source if source.device.type == "cpu" else target
        return target.device.type != source.device.type and not _is_asynchronous(on_cpu, *rest)
    if func in (aten.index_put_.default, aten._index_put_impl_.default):
        target, indices, value = args[:3]
        is_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if target.device.type != "cuda":
            return False
        return is_mask != (value.device.type == "cpu")  # a mask with one number is a `masked_fill_`
    return False


def _is_asynchronous(on_cpu: Tensor, non_blocking: object = False) -> bool:
    return bool(non_blocking) and "pinned" in vars(on_cpu)


def _caller() -> str:
    frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]  # a whole stack of inspect's takes milliseconds
    place = "tests"
    while not (name := frame.f_code.co_filename).startswith(str(ROOT)) or "/tests/" in name or "/.venv/" in name:
        if place == "tests" and "/lightning/" in name:
            place = f"lightning/{name.rpartition('/lightning/')[2]}: {frame.f_code.co_name}"
        if frame.f_back is None:
            return place
        frame = frame.f_back
    return f"{Path(name).relative_to(ROOT)}: {frame.f_code.co_name}"
