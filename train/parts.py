"""The parts of a run, made from its config: the model, the objective and the data."""

from dataclasses import dataclass
from pathlib import Path

from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from data.module import SFTDataModule
from data.preference_module import PreferenceDataModule
from data.streaming_module import StreamingDataModule
from resonance.chat_template import ChatTemplate
from resonance.hydra_config import ConfigError, make
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.paths import home
from train.activation_checkpointing import checkpoint_activations
from train.checkpointing import SavedState
from train.config_checks import check_streaming
from train.cpu_kernels import use_kernels
from train.flash_attention import use_flash_attention
from train.model_init import InitialModel, init_model
from train.objectives import DPO, SFT, Objective, objective_of
from train.preference_module import PreferenceModule
from train.sampled_softmax import SampledSoftmax
from train.sft_module import SFTModule


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run trains, on what; the data is read."""

    template: ChatTemplate
    initial: InitialModel
    objective: Objective
    data: SFTDataModule

    @property
    def module_type(self) -> type[SFTModule]:
        """The Lightning module of the objective."""
        return SFTModule if isinstance(self.objective, SFT) else PreferenceModule

    def module(self, config: DictConfig, trained_length: int | None, trainer: Trainer) -> SFTModule:
        """Make the Lightning module for a trainer; `trained_length` is the longest conversation in training."""
        return self.module_type(
            self.initial.model,
            make(config.optimizer),
            make(config.scheduler),
            config.seed,
            _softmax(config, self.data, self.initial.model),
            trained_length=trained_length,
            objective=self.objective,
            by_document=use_flash_attention(self.initial.model, trainer.strategy.root_device, str(trainer.precision)),
        )


def make_parts(config: DictConfig, saved: SavedState | None = None) -> Parts:
    """Make the model and read the data, of a run that goes on from `saved`. Raises the errors of both."""
    template = ChatTemplate.named(config.template.name)
    initial = init_model(
        config.model.weights,
        _sizes(config.model),
        template,
        seed=config.seed,
        n_head=config.model.n_head_of_weights,
        adapter=make(config.adapter) if config.get("adapter") else None,
        induction_heads=config.model.get("induction_heads") or 0,  # older runs have no such key
    )
    if saved is None:
        _check_lengths(config, initial.model.config)
    _set_computation(config, initial.model)
    objective = objective_of(config)
    data = _data(config, template, initial.model.config, objective)
    data.setup()
    if saved is not None and saved.rows is not None:
        data.go_on_with(saved.rows)
    return Parts(template, initial, objective, data)


def _set_computation(config: DictConfig, model: GPT2) -> None:
    """Choose how the model computes what stays the same: with the CPU's kernels, and its activations once or twice."""
    use_kernels(model)
    if config.get("activation_checkpointing"):
        checkpoint_activations(model)


def packed_row_length(config: DictConfig, model: GPT2Config) -> int:
    """The tokens of a packed row."""
    return min(config.batch.row_length or model.context_length, model.context_length)


def _check_lengths(config: DictConfig, model: GPT2Config) -> None:
    """Raise ConfigError for a length that the model cannot hold. Older runs, which resume, were cut to its context."""
    for key in ("row_length", "max_length"):
        length, limit = config.batch[key], model.context_length
        if length is not None and length > limit:
            raise ConfigError(
                f"batch.{key} is {length}, but the model's context holds {limit} tokens; set batch.{key} to at most "
                f"{limit}, or to null for all of it."
            )


def _softmax(config: DictConfig, data: SFTDataModule, model: GPT2) -> SampledSoftmax | None:
    count = OmegaConf.select(config, "loss.sampled_tokens")  # older runs have no such key
    return None if count is None else SampledSoftmax(data.used_tokens, model.config.vocab_size, count)


def _sizes(model: DictConfig) -> GPT2Config:
    return GPT2Config(
        n_layer=model.n_layer,
        n_head=model.n_head,
        n_embd=model.n_embd,
        context_length=model.context_length,
        tie_weights=model.tie_weights,
        dropout=model.dropout,
        initializer_range=model.initializer_range,
    )


def _data(config: DictConfig, template: ChatTemplate, model: GPT2Config, objective: Objective) -> SFTDataModule:
    batch, row_length, source = config.batch, packed_row_length(config, model), make(config.data)
    if source.streaming is not None:
        check_streaming(config, objective.name)
        return StreamingDataModule(
            source,
            source.stream(),
            template,
            context_length=min(batch.max_length or row_length, row_length),
            batch_size=batch.size,
            packing=batch.packing,
            row_length=row_length if batch.packing else None,
            seed=config.seed,
        )
    if not isinstance(objective, SFT):
        return PreferenceDataModule(
            source,
            template,
            "pairs" if isinstance(objective, DPO) else "votes",
            context_length=min(batch.max_length or row_length, row_length),
            batch_size=batch.size,
            seed=config.seed,
        )
    return SFTDataModule(
        source,
        template,
        context_length=min(batch.max_length or row_length, row_length),
        batch_size=batch.size,
        packing=batch.packing,
        row_length=row_length if batch.packing else None,
        seed=config.seed,
        cache=_data_cache(config.get("data_cache", "auto")),  # older runs have no such key
    )


def _data_cache(value: str | bool) -> Path | None:
    if value is False:
        return None
    return home() / "cache" / "data" if value in (True, "auto") else Path(value).expanduser()
