"""What a server is told: the composed config, and what the environment sets in its place, as plain values.

This is the only place of the room that reads the environment.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from resonance.checkpoint import Checkpoint
from resonance.hydra_config import ConfigError, compose
from resonance.paths import CHECKPOINTS
from serve.bounds import check
from serve.owners import EnvironmentKey, parse_environment_keys, read_owners
from serve.storage.database import default_url

HOSTS = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "0.0.0.0": "0.0.0.0", "::": "::"}  # as LitServe takes them

ENVIRONMENT = {
    "MODEL_PATH": "checkpoint",
    "DEVICE": "device",
    "MAX_NEW_TOKENS": "max_new_tokens",
    "CONTEXT_LENGTH": "context_length",
    "HOST": "host",
    "PORT": "port",
    "CORS_ORIGINS": "cors_origins",
    "SEARCH_ENABLED": "search",
    "SEARCH_MAX_RESULTS": "search.max_results",
    "DATABASE_URL": "store.url",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "tracing",
}
"""Which key each variable sets. RESONANCE_API_KEYS is read by itself: secrets stay out of configs."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a worker needs to know; `checkpoints` are folders by the names under which they are served."""

    checkpoints: Mapping[str, str]
    dtype: str
    quantize: str | None
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """What holds where a request says nothing."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request, and one client, may ask for."""

    body_bytes: int
    bodies_bytes: int
    answer_bytes: int
    answers_bytes: int
    receive_s: float
    write_s: float
    connections: int
    connections_per_address: int | None
    exports: int
    messages: int
    message_chars: int
    prompt_logprobs: int
    import_lines: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    streams: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything else about the server."""

    engine: EngineSettings
    sampling: Sampling
    limits: Limits
    search: Mapping[str, Any]
    host: str
    port: int
    device: str
    auth: Literal["auto", "none"]
    requires_keys: bool  # at the start
    api_keys: tuple[EnvironmentKey, ...]  # those of the environment; `resonance keys` keeps others
    cors_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    max_queue: int
    root: Path  # where the runs are
    memory_gb: float | None
    context_length: int | None
    timeout_s: float
    grace_s: int
    resume_s: float
    hang_s: float
    store_url: str
    retention_days: int | None
    max_stored_bytes: int | None  # of one owner
    tracing: str | None
    log: Literal["debug", "info", "warning", "error"]


def read_settings(overrides: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Compose `configs/serve.yaml` with the environment and then the overrides, which win.

    Raises ConfigError or CheckpointError, in one sentence, for what cannot be served.
    """
    config = compose("serve", [*_from_environment(environment, overrides), *overrides])
    return _settings(config, parse_environment_keys(environment.get("RESONANCE_API_KEYS", "")))


def _from_environment(environment: Mapping[str, str], overrides: Sequence[str]) -> list[str]:
    """The overrides that the environment stands for, without those that the command line says otherwise."""
    said = {override.partition("=")[0].lstrip("+") for override in overrides}
    lines: list[str] = []
    for variable, key in ENVIRONMENT.items():
        value = environment.get(variable, "").strip()
        if not value or key in said:
            continue
        if variable == "SEARCH_ENABLED":
            lines += ["search=duckduckgo"] if _is_true(variable, value) else ["search=off"]
        elif variable == "SEARCH_MAX_RESULTS":
            # Without a search there is no such key.
            if "search" in said or _is_true("SEARCH_ENABLED", environment.get("SEARCH_ENABLED", "") or "false"):
                lines.append(f"{key}={value}")
        elif variable == "CORS_ORIGINS":
            lines.append(f"{key}=[{','.join(map(_quoted, _listed(variable, value)))}]")
        elif value.lstrip("-").isdigit():
            lines.append(f"{key}={value}")
        else:
            lines.append(f"{key}={_quoted(value)}")
    return lines


def _is_true(variable: str, value: str) -> bool:
    if value.lower() in ("true", "1", "yes", "on"):
        return True
    if value.lower() in ("false", "0", "no", "off"):
        return False
    raise ConfigError(f"{variable} must be true or false, not {value!r}.")


def _listed(variable: str, value: str) -> list[str]:
    """A JSON list of texts, or texts parted by commas."""
    if not value.startswith("["):
        return [part for each in value.split(",") if (part := each.strip())]
    try:
        parts: list[Any] = json.loads(value)
    except ValueError:
        parts = [None]
    if not all(isinstance(part, str) for part in parts):
        raise ConfigError(
            f'{variable} must be a JSON list, ["http://localhost:5173"], or origins parted by commas, not {value!r}.'
        )
    return parts


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _settings(config: DictConfig, api_keys: tuple[EnvironmentKey, ...]) -> Settings:
    values: Any = OmegaConf.to_container(config, resolve=True)
    check(config)
    host = HOSTS.get(str(values["host"]))
    if host is None:
        raise ConfigError(f"host must be one of {', '.join(HOSTS)}, not {values['host']!r}.")
    requires_keys = values["auth"] == "auto" and bool(api_keys or read_owners())
    if values["auth"] == "auto" and host != "127.0.0.1" and not requires_keys:
        raise ConfigError(
            f"host={host} lets other machines in: make keys for them with `resonance keys add NAME` or set "
            "RESONANCE_API_KEYS, or say auth=none if anybody may come in."
        )
    runs = CHECKPOINTS if values["root"] is None else Path(values["root"]).expanduser()
    return Settings(
        engine=EngineSettings(
            checkpoints=_checkpoints(values["checkpoint"], runs),
            dtype=values["dtype"],
            quantize=values["quantize"],
            max_batch_size=values["max_batch_size"],
        ),
        sampling=Sampling(**{name: values[name] for name in Sampling.__slots__}),
        limits=Limits(**values["limits"]),
        search=values.get("search") or {},
        host=host,
        port=values["port"],
        device=values["device"],
        auth=values["auth"],
        requires_keys=requires_keys,
        api_keys=api_keys,
        cors_origins=tuple(values["cors_origins"]),
        allowed_hosts=tuple(values["allowed_hosts"]),
        max_queue=values["max_queue"],
        root=runs,
        memory_gb=values["memory_gb"],
        context_length=values["context_length"],
        timeout_s=values["timeout_s"],
        grace_s=values["grace_s"],
        resume_s=values["resume_s"],
        hang_s=values["hang_s"],
        store_url=values["store"]["url"] or default_url(),
        retention_days=values["store"]["retention_days"],
        max_stored_bytes=values["store"]["max_bytes"],
        tracing=values["tracing"],
        log=values["log"],
    )


def _checkpoints(what: object, runs: Path) -> dict[str, str]:
    """Folders by served name; an unknown checkpoint fails here, before any process is started."""
    names: list[Any] = list(what) if isinstance(what, list) else [what]
    if not names:
        raise ConfigError("checkpoint names nothing to serve; write checkpoint=latest or checkpoint=[a,b].")
    found = [Checkpoint.find(str(name), runs) for name in names]
    folders = {checkpoint.name: str(checkpoint.folder.resolve()) for checkpoint in found}
    if len(folders) < len(found):
        raise ConfigError(f"checkpoint={names} names two checkpoints that are called the same; give each its own name.")
    return folders
