"""An exponential moving average of the weights, which is what a run validates and serves."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_WARMUP = 10  # updates; the average of a short run would otherwise be that of its first weights


class WeightAverage:
    """The moving average of a model's trainable parameters, in float32.

    After update number t, the average is d * average + (1 - d) * weights with d = min(decay, t / (t + 9)).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._decay = decay
        self._averages: dict[str, Tensor] = {}
        self._updates = 0
        self._applied = 0  # how many `applied` blocks are open

    @torch.no_grad()
    def update(self) -> None:
        """Add the present weights. Call it after each optimiser step."""
        self._updates += 1
        weight = 1 - min(self._decay, self._updates / (self._updates + _WARMUP - 1))
        for name, parameter in self._parameters.items():
            average = self._averages.get(name)
            if average is None:  # of the first step's weights
                self._averages[name] = parameter.detach().clone()
            else:
                self._averages[name] = average = average.to(parameter.device)
                average.lerp_(parameter.detach(), weight)

    @contextmanager
    def applied(self) -> Generator[None]:
        """Give the model the averages inside the block, if there are any yet; blocks can be nested."""
        if self._applied == 0:
            self._swap()
        self._applied += 1
        try:
            yield
        finally:
            self._applied -= 1
            if self._applied == 0:
                self._swap()

    def state_dict(self) -> dict[str, object]:
        """The number of updates and the averages; call it outside of `applied`."""
        return {"updates": self._updates, "averages": dict(self._averages)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from a saved state."""
        updates, averages = state["updates"], state["averages"]
        assert isinstance(updates, int) and isinstance(averages, dict)
        self._updates = updates
        self._averages = {str(name): value.clone() for name, value in averages.items()}

    def _swap(self) -> None:
        for name, average in self._averages.items():
            parameter = self._parameters[name]
            self._averages[name], parameter.data = parameter.data, average.to(parameter.device)
