"""Records where code waits for the device: each place that reads numbers of a fake CUDA tensor, which are zeros."""

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).parents[2]


class Transfers(TorchFunctionMode):
    """Counts transfers from the device by the function that causes them, as `resonance/engine/sampler.py: sample`."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._tolist = patch.object(FakeTensor, "tolist", Tensor.tolist)  # its own reads number by number
        self._tolist.start()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._tolist.stop()

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


def _caller() -> str:
    frame = inspect.stack(0)[2].frame
    while not (name := frame.f_code.co_filename).startswith(str(ROOT)) or "/tests/" in name or "/.venv/" in name:
        if frame.f_back is None:
            return "tests"
        frame = frame.f_back
    return f"{Path(name).relative_to(ROOT)}: {frame.f_code.co_name}"
