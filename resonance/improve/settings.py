"""The settings of `resonance improve`, checked."""

import re
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from resonance import paths
from resonance.hydra_config import ConfigError, nearest

METRICS = ("exact_match", "token_f1", "rouge_l", "chrf")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of the day, possibly over midnight, in local time."""

    start: time
    end: time

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies within."""
        now = moment.time()
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How the candidate is trained; see configs/improve.yaml."""

    passes: int
    share: float
    lr_scale: float
    batch_size: int | None
    min_examples: int
    min_pairs: int
    min_thumbs: int
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What decides on the promotion; see configs/improve.yaml."""

    metric: str
    alpha: float
    effect: float
    lost: float
    max_wrong: float
    evidence: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that configs/improve.yaml sets; times in seconds."""

    alias: str
    root: Path
    out: Path | None
    dry: bool
    promote: bool
    verify: bool
    fresh: bool
    every: float | None
    quiet_hours: QuietHours | None
    store_url: str | None
    training_consent: str
    screen: bool
    held_out: float
    train: TrainSettings
    suite: tuple[str, ...]
    limit: int | None
    gate: GateSettings
    time_limit: float | None
    free_bytes: int
    keep: int


def settings_of(config: DictConfig) -> Settings:
    """Read and check a composed config. Raises ConfigError."""
    values = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    train, gate, limits, suite = values["train"], values["gate"], values["limits"], values["suite"]
    for key in ("dry", "promote", "verify", "fresh", "screen"):
        if not isinstance(values[key], bool):
            raise ConfigError(f"{key} must be true or false, not {values[key]!r}.")
    if values["training_consent"] not in ("ask", "given", "never"):
        raise ConfigError(f"training_consent must be ask, given or never, not {values['training_consent']!r}.")
    if gate["metric"] not in METRICS:
        raise ConfigError(f"There is no gate.metric {gate['metric']!r}; {nearest(str(gate['metric']), METRICS)}")
    held_out = _number("held_out", values["held_out"], 0.01, 0.5)
    tasks = suite["tasks"]
    if not isinstance(tasks, list) or not tasks:
        raise ConfigError("suite.tasks must be a list of tasks that must not become worse, as [instruct,turns].")
    return Settings(
        alias=str(values["checkpoint"]),
        root=(paths.CHECKPOINTS if values["root"] is None else Path(str(values["root"])).expanduser()).resolve(),
        out=None if values["out"] is None else Path(str(values["out"])).expanduser(),
        dry=values["dry"],
        promote=values["promote"],
        verify=values["verify"],
        fresh=values["fresh"],
        every=None if values["every"] is None else duration("every", str(values["every"])),
        quiet_hours=None if values["quiet_hours"] is None else quiet_hours(str(values["quiet_hours"])),
        store_url=values["store"]["url"],
        training_consent=values["training_consent"],
        screen=values["screen"],
        held_out=held_out,
        train=TrainSettings(
            passes=_whole("train.passes", train["passes"], 1),
            share=_number("train.share", train["share"], 0.01, 0.99),
            lr_scale=_number("train.lr_scale", train["lr_scale"], 1e-6, 10),
            batch_size=None if train["batch_size"] is None else _whole("train.batch_size", train["batch_size"], 1),
            min_examples=_whole("train.min_examples", train["min_examples"], 1),
            min_pairs=_whole("train.min_pairs", train["min_pairs"], 1),
            min_thumbs=_whole("train.min_thumbs", train["min_thumbs"], 1),
            overrides=_words(train["overrides"]),
        ),
        suite=tuple(str(task) for task in tasks),
        limit=None if suite["limit"] is None else _whole("suite.limit", suite["limit"], 1),
        gate=GateSettings(
            metric=gate["metric"],
            alpha=_number("gate.alpha", gate["alpha"], 1e-6, 0.5),
            effect=_number("gate.effect", gate["effect"], 0.01, 1),
            lost=_number("gate.lost", gate["lost"], 0, 0.45),
            max_wrong=_number("gate.max_wrong", gate["max_wrong"], 0, 1),
            evidence=tuple(_file("gate.evidence", str(each)) for each in gate["evidence"]),
        ),
        time_limit=None if limits["minutes"] is None else 60 * _number("limits.minutes", limits["minutes"], 0.01, 1e6),
        free_bytes=int(1e9 * _number("limits.free_gb", limits["free_gb"], 0, 1e6)),
        keep=_whole("limits.keep", limits["keep"], 0),
    )


def duration(key: str, text: str) -> float:
    """Seconds of `24h`, `90m`, `7d`. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"{key} must be a number and s, m, h or d, such as 24h, not {text!r}.")
    return float(match[1]) * _UNITS[match[2]]


def quiet_hours(text: str) -> QuietHours:
    """The hours of `08:00-20:00`. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*", text)
    try:
        if match is None:
            raise ValueError
        start, end = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
    except ValueError:
        raise ConfigError(f"quiet_hours must be two times, such as 08:00-20:00, not {text!r}.") from None
    if start == end:
        raise ConfigError(f"quiet_hours={text} would never end or never begin; give two different times.")
    return QuietHours(start, end)


def _number(key: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{key} must be a number from {least:g} to {most:g}, not {value!r}.")
    return float(value)


def _whole(key: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{key} must be a whole number from {least} on, not {value!r}.")
    return value


def _words(value: object) -> tuple[str, ...]:
    """A list of texts; one without quotes is outside Hydra's grammar, and arrives as one text."""
    if isinstance(value, str):
        value = [text.strip().strip("'\"") for text in value.removeprefix("[").removesuffix("]").split(",")]
    return tuple(str(each) for each in cast("list[object]", value) if str(each))


def _file(key: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise ConfigError(f"There is no file {text} ({key}).")
    return path.resolve()
