"""Counts the memory of fake CUDA tensors, which take none."""

import weakref
from typing import Any, Self
from unittest.mock import patch

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes, of which torch's allocator gives a multiple


class Memory:
    """Counts the bytes of all fake CUDA tensors that are made inside the block: `peak` is the most at once.

    What a kernel allocates for itself, and what the allocator's own blocks leave free, is not among them.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def __enter__(self) -> Self:
        original = FakeTensorMode.dispatch

        def dispatch(mode: FakeTensorMode, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = original(mode, func, types, args, kwargs)
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor) and leaf.device.type == "cuda":
                    self._add(leaf)
            return result

        self._patch = patch.object(FakeTensorMode, "dispatch", dispatch)
        self._patch.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._patch.stop()

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # pyright: ignore[reportPrivateUsage]  # its identity, which views share
        if key in self._known:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._known[key] = weakref.finalize(storage, self._free, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        self.now -= size
        del self._known[key]
