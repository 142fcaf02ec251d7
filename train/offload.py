"""AdamW whose moments are in the CPU's memory while the parameters are on a GPU.

A step copies the moments of one parameter at a time to the GPU and back, from and to pinned memory: 16 bytes a
parameter over the bus, in exchange for 8 bytes a parameter of the GPU's memory. The update itself is the fused kernel
on the GPU, so that the result is that of AdamW, bit for bit, and a state of one can be loaded by the other.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.adamw import adamw

from resonance.hydra_config import ConfigError
from resonance.pinned_memory import pinned

_MOMENTS = ("exp_avg", "exp_avg_sq")


class OffloadedAdamW(AdamW):
    """torch's fused AdamW, with its moments on the CPU."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=True)
        self._step_supports_amp_scaling = False  # fp16's scaler then skips overflowed steps itself
        # Not in `self.state`, whose tensors Lightning moves to the device of the parameters.
        self._state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        state = self._state.get(parameter)
        if state is None:
            state = {name: pinned(torch.zeros_like(parameter, device="cpu"), parameter.device) for name in _MOMENTS}
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            self._state[parameter] = state
        # In the order of the current stream, which the next step's copies and `state_dict` wait for.
        moments = [state[name].to(parameter.device, non_blocking=True) for name in _MOMENTS]
        assert parameter.grad is not None
        adamw(
            [parameter],
            [parameter.grad],
            [moments[0]],
            [moments[1]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for name, moment in zip(_MOMENTS, moments, strict=True):
            if moment is not state[name]:  # `to` copies nothing on the CPU
                state[name].copy_(moment, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """AdamW's own state, with the moments on the CPU."""
        if any(parameter.is_cuda for parameter in self._state):
            torch.cuda.synchronize()
        self.state = defaultdict(dict, self._state)
        try:
            return super().state_dict()
        finally:
            self.state = defaultdict(dict)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of AdamW's, of this class or torch's. Raises ValueError when its groups differ."""
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, saved in state_dict["state"].items():
            parameter = parameters[index]
            state = {name: pinned(saved[name].to("cpu", copy=True), parameter.device) for name in _MOMENTS}
            state["step"] = saved["step"].to(parameter.device, copy=True)
            self._state[parameter] = state


def check_offload(config: DictConfig, trainer: Trainer) -> None:
    """Raise ConfigError for `optimizer.cpu_offload` where there is nothing to offload from."""
    if not OmegaConf.select(config, "optimizer.cpu_offload"):
        return
    device = trainer.strategy.root_device.type
    if device != "cuda":
        raise ConfigError(
            f"optimizer.cpu_offload=true needs a CUDA GPU, and this run is on {device}, whose memory holds the "
            "moments already; leave it out."
        )
