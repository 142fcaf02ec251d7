"""What training minimises: the settings of `configs/objective/`, and what they cannot be combined with."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

from omegaconf import DictConfig, OmegaConf

from resonance.hydra_config import ConfigError, make

LOSS_ON = ("answers", "all")
WEIGHTS = ("token", "turn", "example")


@dataclass(frozen=True, slots=True, kw_only=True)
class SFT:
    """Supervised fine-tuning: the likelihood of the answers. Raises ConfigError for invalid values."""

    name: ClassVar[str] = "sft"
    loss_on: str = "answers"
    weight: str = "token"
    label_smoothing: float = 0.0
    neftune_alpha: float = 0.0
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        _check_choice("loss_on", self.loss_on, LOSS_ON)
        _check_choice("weight", self.weight, WEIGHTS)
        _check_number("label_smoothing", self.label_smoothing, 0, 1)
        _check_number("neftune_alpha", self.neftune_alpha, 0)
        _check_ema(self.ema_decay)
        if self.loss_on == "all" and self.weight == "turn":
            raise ConfigError(
                "objective.weight=turn weights the assistant's turns, and with objective.loss_on=all the loss is on "
                "all tokens; choose weight=example or weight=token."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DPO:
    """Direct preference optimisation on pairs of answers. Raises ConfigError for invalid values."""

    name: ClassVar[str] = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        _check_number("beta", self.beta, 0, above=True)
        _check_number("label_smoothing", self.label_smoothing, 0, 0.5)
        _check_ema(self.ema_decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class KTO:
    """Kahneman-Tversky optimisation on votes. Raises ConfigError for invalid values."""

    name: ClassVar[str] = "kto"
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        _check_number("beta", self.beta, 0, above=True)
        _check_number("desirable_weight", self.desirable_weight, 0, above=True)
        _check_number("undesirable_weight", self.undesirable_weight, 0, above=True)
        _check_ema(self.ema_decay)


Objective: TypeAlias = SFT | DPO | KTO


def objective_of(config: DictConfig) -> Objective:
    """The objective of a run's config; SFT for older runs, which have none.

    Raises ConfigError for invalid settings, and for settings of the run that the objective cannot be combined with.
    """
    node = config.get("objective")
    objective: object = SFT() if node is None else make(node)
    if not isinstance(objective, SFT | DPO | KTO):
        raise ConfigError("objective must be one of sft, dpo and kto.")
    sampled = OmegaConf.select(config, "loss.sampled_tokens") is not None
    if isinstance(objective, SFT):
        if sampled and objective.label_smoothing:
            raise ConfigError(
                "objective.label_smoothing needs the whole vocabulary; set it to 0, or loss.sampled_tokens=null."
            )
    else:
        if sampled:
            raise ConfigError(
                f"objective={objective.name} compares exact log-probabilities; leave out loss.sampled_tokens."
            )
        if config.batch.packing:
            raise ConfigError(
                f"objective={objective.name} has one answer in each row; leave out batch.packing=true, or set it to "
                "false."
            )
        cache = config.get("data_cache", "auto")
        if cache not in ("auto", True, False):
            raise ConfigError(f"objective={objective.name} keeps its data in memory; leave out data_cache={cache}.")
    return objective


def describe(objective: Objective) -> str:
    """The objective and those of its settings that are not the default, for a run's record."""
    default = type(objective)()
    settings: Mapping[str, object] = {
        field.name: getattr(objective, field.name)
        for field in fields(objective)
        if getattr(objective, field.name) != getattr(default, field.name) or field.name == "beta"
    }
    return ", ".join([objective.name, *(f"{name} {value}" for name, value in settings.items())])


def balance(objective: KTO, desirable: int, undesirable: int) -> str:
    """The numbers of votes, and the weights to balance them if they are far from it (KTO's paper, section 4.2)."""
    sentence = f"{desirable:,} desirable and {undesirable:,} undesirable answers"
    if not desirable or not undesirable:
        return f"{sentence}: votes of both kinds train better than of one"
    ratio = objective.desirable_weight * desirable / (objective.undesirable_weight * undesirable)
    if 1 <= ratio <= 4 / 3:
        return sentence
    key, weight = (
        ("desirable_weight", objective.desirable_weight / ratio)
        if ratio < 1
        else ("undesirable_weight", objective.undesirable_weight * ratio)
    )
    return f"{sentence}, which weigh {ratio:.2f} to 1; objective.{key}={weight:.2f} balances them"


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"objective.{key} must be one of {', '.join(choices)}, not {value!r}.")


def _check_number(key: str, value: object, low: float, high: float = float("inf"), *, above: bool = False) -> None:
    """Raise ConfigError unless low <= value < high, or low < value where `above`."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if low <= number < high and not (above and number == low):
        return
    least = f"more than {low:g}" if above else f"{low:g} or more"
    limit = "" if high == float("inf") else f" and less than {high:g}"
    raise ConfigError(f"objective.{key} must be {least}{limit}, not {value!r}.")


def _check_ema(decay: object) -> None:
    if decay is not None:
        _check_number("ema_decay", decay, 0, 1, above=True)
