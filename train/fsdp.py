"""FSDP2: each process holds a share of every parameter, of its gradient and of the optimiser's state.

A block's parameters are gathered for its forward and its backward pass; those outside of the blocks (the embeddings,
the last LayerNorm and the head) from the forward to the end of the backward pass, so that the loss has the whole head.
States on disk hold whole tensors, in the form that one process writes and reads.

Source: Zhao et al. 2023, "PyTorch FSDP"; `torch.distributed.fsdp.fully_shard` shards parameter by parameter.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from resonance.hydra_config import ConfigError
from resonance.model import GPT2

NAME = "fsdp2"  # of `trainer.strategy`


class FSDP2Strategy(DDPStrategy):
    """Starts and joins processes as Lightning's DDP does, and shards the GPT-2 of the Lightning module among them.

    Every process begins with the whole weights in the CPU's memory.
    """

    def configure_ddp(self) -> None:
        """Shard the weights, on the process's device. Optimisers are made afterwards, of the shares."""
        module = self.lightning_module
        assert module is not None
        model = module.model
        assert isinstance(model, GPT2)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        module.to(self.root_device)  # tells Lightning where the weights are

    def model_to_device(self) -> None:
        """Leave the weights where they are: `configure_ddp` moves them block by block."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on rank 0; elsewhere nothing. All processes call it, as for the optimiser's state."""
        return self._gather(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimiser's state as one process would have it, on rank 0."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        moments = {number: self._gather(of_parameter) for number, of_parameter in state["state"].items()}
        return {**state, "state": moments}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load whole states, of which each process keeps its share."""
        sharded = [
            _shard_state(optimizer, state)
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        ]
        super().load_optimizer_state_dict({"optimizer_states": sharded})

    def teardown(self) -> None:
        """End the run; unlike DDP, leave the shares on their devices, as Lightning's `ModelParallelStrategy` does."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    def _gather(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Whole tensors instead of sharded ones, on the CPU of rank 0; empty elsewhere."""
        whole = ((name, value.full_tensor() if isinstance(value, DTensor) else value) for name, value in state.items())
        kept = {name: value.cpu() if self.is_global_zero else None for name, value in whole}
        return kept if self.is_global_zero else {}


def whole_model(model: GPT2) -> GPT2:
    """The model itself; of a sharded one, a copy with whole weights on rank 0, which all ranks gather together."""
    if not isinstance(model, FSDPModule):
        return model
    state = model.state_dict()
    if torch.distributed.get_rank():
        for value in state.values():
            value.full_tensor()
        return model
    return GPT2.from_state(model.config, {name: value.full_tensor() for name, value in state.items()})


def _shard_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """A whole state of an optimiser with its moments sharded as the parameters are."""
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sharded = {
        number: {name: _like(value, parameter) for name, value in state["state"][number].items()}
        for number, parameter in zip(numbers, parameters, strict=True)
        if number in state["state"]
    }
    return {**state, "state": sharded}


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, present on every rank, sharded as a parameter of its shape is; others as they are."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def check_strategy(config: DictConfig) -> None:
    """Raise ConfigError for a strategy that shards weights in another way, and for what cannot be kept with FSDP2."""
    strategy = str(OmegaConf.select(config, "trainer.strategy"))
    if strategy != NAME:
        if any(name in strategy.lower().replace("_", "") for name in ("fsdp", "modelparallel", "deepspeed")):
            raise ConfigError(
                f"trainer.strategy={strategy} is refused: of the strategies that shard the weights, {NAME} alone "
                f"writes checkpoints that one process reads; use {NAME} or ddp."
            )
        return
    select = lambda key: OmegaConf.select(config, key)  # noqa: E731
    optimizer = str(select("optimizer._target_")).rpartition(".")[2]
    for kept, key, reason in (
        (select("adapter"), "adapter", "an adapter's gradients and moments are small already"),
        (optimizer == "muon", "optimizer=muon", "it orthogonalises whole matrices"),
        (optimizer == "adamw_8bit", "optimizer=adamw_8bit", "its moments are quantised in blocks of whole matrices"),
        (select("optimizer.cpu_offload"), "optimizer.cpu_offload=true", "it moves whole moments"),
        (select("objective.ema_decay"), "objective.ema_decay", "it averages whole weights"),
        (select("trainer.precision") == "16-mixed", "trainer.precision=16-mixed", "each process would scale its own"),
        (select("compile") is True, "compile=true", "the compiled parts of a block need its whole weights"),
    ):
        if kept:
            raise ConfigError(f"trainer.strategy={NAME} cannot be kept with {key}: {reason}; leave it out, or use ddp.")
