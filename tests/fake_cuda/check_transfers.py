"""What counts as a wait for the device, in the checks of the engine and of training."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from resonance.pinned_memory import tensor_on, to_device
from tests.fake_cuda.transfers import Transfers

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fake_cuda() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


WAITS: dict[str, Callable[[Tensor], object]] = {
    "a number": lambda x: float(x.sum()),
    "a list": lambda x: x.tolist(),
    "a branch": lambda x: bool(x.any()),
    "to the CPU": lambda x: x.cpu(),
    "to the CPU by copy_": lambda x: torch.zeros(4, 4).copy_(x, non_blocking=True),
    "a tensor of a list": lambda x: torch.tensor([1, 2], device="cuda"),
    "from pageable memory": lambda x: torch.zeros(3).to("cuda", non_blocking=True),
    "from pinned memory, blocking": lambda x: torch.zeros(3).pin_memory().to("cuda"),
    "by copy_": lambda x: x.copy_(torch.zeros(4, 4)),
    "by assignment": lambda x: x.__setitem__(0, torch.zeros(4)),
    "an index that is a list": lambda x: x[[0, 1]],
    "a number where an index is": lambda x: x.__setitem__(tensor_on(CUDA, [0, 1]), 0.0),
}
GOES_ON: dict[str, Callable[[Tensor], object]] = {
    "to_device": lambda x: to_device(torch.zeros(3), CUDA),
    "tensor_on": lambda x: x[tensor_on(CUDA, [0, 1])],
    "an integer": lambda x: x.__setitem__(0, 1.0),
    "index_fill_": lambda x: x.index_fill_(0, tensor_on(CUDA, [0, 1]), 0.0),
    "a mask": lambda x: x.__setitem__(x > 0, 0.0),
    "products": lambda x: x @ x * 2.0,
}


@pytest.mark.parametrize("what", WAITS)
def test_a_wait_is_counted(what: str) -> None:
    x = torch.ones(4, 4, device=CUDA)
    with Transfers() as transfers:
        WAITS[what](x)
    assert transfers.places.total() == 1


@pytest.mark.parametrize("what", GOES_ON)
def test_what_waits_for_nothing_is_not_counted(what: str) -> None:
    x = torch.ones(4, 4, device=CUDA)
    with Transfers() as transfers:
        GOES_ON[what](x)
    assert not transfers.places
