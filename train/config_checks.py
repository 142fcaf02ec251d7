"""Checks the keys and the numeric ranges of a training config, before a run writes anything."""

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from resonance.frozen_weights import BASE_DTYPES
from resonance.hydra_config import ConfigError, compose, nearest

Range = tuple[Callable[[float], bool], str]

_ABSENT = object()

_COUNT: Range = (lambda value: value >= 1, "at least 1")
_NOT_NEGATIVE: Range = (lambda value: value >= 0, "0 or more")
_POSITIVE: Range = (lambda value: value > 0, "more than 0")
_SHARE: Range = (lambda value: 0 < value <= 1, "more than 0 and at most 1")
_SEED: Range = (lambda value: 0 <= value < 2**32, "between 0 and 4294967295")

# Keys that may be null. Absent keys are not checked.
NULLABLE = (
    "batch.row_length",
    "batch.max_length",
    "loss.sampled_tokens",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.val_every_n_steps",
    "trainer.limit_val_batches",
    "trainer.gradient_clip_val",
    "callbacks.early_stopping.patience",
    "callbacks.evaluate.limit",
)
NEWER = {
    "model": ("induction_heads",),
    "save": ("monitor", "mode", "keep_best"),
}  # keys that older runs lack, by section
RANGES = {
    "seed": _SEED,
    "batch.size": _COUNT,
    "batch.row_length": _COUNT,
    "batch.max_length": _COUNT,
    "save.every_n_steps": _COUNT,
    "save.keep_best": _NOT_NEGATIVE,
    "loss.sampled_tokens": _NOT_NEGATIVE,
    "trainer.max_steps": _COUNT,
    "trainer.max_epochs": _COUNT,
    "trainer.accumulate_grad_batches": _COUNT,
    "trainer.log_every_n_steps": _COUNT,
    "trainer.num_nodes": _COUNT,
    "trainer.val_every_n_steps": _COUNT,
    "trainer.limit_val_batches": _POSITIVE,
    "trainer.gradient_clip_val": _POSITIVE,
    "model.induction_heads": _NOT_NEGATIVE,
    "adapter.rank": _COUNT,
    "adapter.alpha": _POSITIVE,
    "adapter.dropout": (lambda value: 0 <= value < 1, "0 or more and less than 1"),
    "optimizer.lr": _POSITIVE,
    "optimizer.eps": _POSITIVE,
    "optimizer.adamw_eps": _POSITIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "scheduler.warmup_steps": _NOT_NEGATIVE,
    "scheduler.final": _NOT_NEGATIVE,
    "scheduler.decay": _SHARE,
    "scheduler.cycles": _COUNT,
    "scheduler.growth": _POSITIVE,
    "optimizer.layer_decay": _SHARE,
    "callbacks.samples.every_n_steps": _NOT_NEGATIVE,
    "callbacks.samples.count": _NOT_NEGATIVE,
    "callbacks.samples.max_new_tokens": _COUNT,
    "callbacks.evaluate.every_n_steps": _COUNT,
    "callbacks.evaluate.limit": _COUNT,
    "callbacks.evaluate.batch_size": _COUNT,
    "callbacks.early_stopping.patience": _COUNT,
    "callbacks.early_stopping.min_delta": _NOT_NEGATIVE,
}


def check_ranges(config: DictConfig) -> None:
    """Raise ConfigError for the first number outside its range."""
    for key, (is_valid, description) in RANGES.items():
        value = OmegaConf.select(config, key, default=_ABSENT)
        if value is _ABSENT or (value is None and key in NULLABLE):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_valid(value):
            raise ConfigError(f"{key} must be {description}, not {'null' if value is None else repr(value)}.")
    mode = config.save.get("mode", "min")
    if mode not in ("min", "max"):
        raise ConfigError(f"save.mode must be min or max, not {mode!r}.")
    checkpointing = config.get("activation_checkpointing", False)
    if not isinstance(checkpointing, bool):
        raise ConfigError(f"activation_checkpointing must be true or false, not {checkpointing!r}.")
    compile_ = config.get("compile", False)
    if compile_ != "auto" and not isinstance(compile_, bool):
        raise ConfigError(f"compile must be auto, true or false, not {'null' if compile_ is None else repr(compile_)}.")
    _check_base_dtype(config)
    cache = config.get("data_cache", "auto")
    if not isinstance(cache, bool) and (not isinstance(cache, str) or not cache.strip()):
        raise ConfigError(
            f"data_cache must be auto, false or a folder, not {'null' if cache is None else repr(cache)}."
        )
    name = config.run
    if name is not None and (not str(name).strip(".") or any(mark in str(name) for mark in "/\\\0")):
        raise ConfigError(f"run must be the name of a folder, without slashes, not {name!r}.")


def _check_base_dtype(config: DictConfig) -> None:
    """Raise ConfigError where compact frozen weights cannot be held beside an adapter in float32."""
    base_dtype = OmegaConf.select(config, "adapter.base_dtype", default="fp32")
    if base_dtype not in BASE_DTYPES:
        raise ConfigError(f"adapter.base_dtype must be one of {', '.join(BASE_DTYPES)}, not {base_dtype!r}.")
    if base_dtype == "fp32":
        return
    precision = str(config.trainer.get("precision"))
    if "true" in precision and not precision.startswith("32"):
        raise ConfigError(
            f"adapter.base_dtype={base_dtype} keeps the adapter in float32, which trainer.precision={precision} does "
            "not; use bf16-mixed, 16-mixed or 32-true."
        )


def check_streaming(config: DictConfig, objective: str) -> None:
    """Raise ConfigError for what needs the whole data, which a run with data.streaming=true never has."""
    if objective != "sft":
        raise ConfigError(f"objective={objective} holds its pairs in memory; set data.streaming=false.")
    for key, reason, instead in (
        ("trainer.max_epochs", "the length of an epoch is unknown", "set trainer.max_steps alone"),
        ("loss.sampled_tokens", "the data's tokens are unknown", "set it to null"),
    ):
        if OmegaConf.select(config, key) is not None:
            raise ConfigError(f"{key} cannot be held with data.streaming=true: {reason}; {instead}.")
    for key, reason in (
        ("trainer.max_steps", "the run's length"),
        ("trainer.val_every_n_steps", "the steps between validations"),
    ):
        if OmegaConf.select(config, key) is None:
            raise ConfigError(f"data.streaming=true does not know an epoch's length; set {key}, {reason}.")
    cache = config.get("data_cache", "auto")
    if cache not in ("auto", True, False):
        raise ConfigError(f"data.streaming=true keeps no tokenised data; leave out data_cache={cache}.")


def check_keys(config: DictConfig) -> None:
    """Raise ConfigError for an unknown key and for a missing one.

    A node with a `_target_` is checked against its target's parameters when it is instantiated.
    """
    known = compose("train")
    _check_known(
        config,
        known,
        "",
        optional=(
            "activation_checkpointing",
            "adapter",
            "callbacks",
            "compile",
            "data_cache",
            "logger",
            "loss",
            "objective",
            "plan",
            "plan_memory",
            "report_only",
        ),
    )
    for section in ("batch", "loss", "save", "model", "template"):
        if section in config:
            _check_known(config[section], known[section], f"{section}.", optional=NEWER.get(section, ()))


def _check_known(node: DictConfig, known: DictConfig, prefix: str, *, optional: tuple[str, ...]) -> None:
    names = list(dict.fromkeys(f"{prefix}{name}" for name in (*known, *optional)))
    for name in node:
        if f"{prefix}{name}" not in names:
            raise ConfigError(f"There is no key '{prefix}{name}'; {nearest(f'{prefix}{name}', names)}")
    for name in known:
        if name not in node and name not in optional:
            raise ConfigError(f"A run needs the key {prefix}{name}; do not take it away.")
