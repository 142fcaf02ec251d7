"""The server's settings: `configs/serve.yaml` with the environment's values, validated by pydantic models.

No other module of `serve` reads the environment. Hydra composes the config, and the environment's values are overrides
of it: `SEARCH_ENABLED` chooses a config group, which pydantic-settings cannot express.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from resonance.aliases import read_aliases
from resonance.checkpoint import Checkpoint
from resonance.hydra_config import ConfigError, compose
from resonance.paths import CHECKPOINTS
from serve.middleware.cors import DEFAULT_PORTS
from serve.middleware.host import parse_host
from serve.owners import EnvironmentKey, parse_environment_keys, read_owners
from serve.storage.database import default_url

HOSTS = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "0.0.0.0": "0.0.0.0", "::": "::"}  # that LitServe accepts

SHADOW = "#shadow"  # its key among the workers' checkpoints; no run has such a name

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
"""The key that each variable sets. RESONANCE_API_KEYS is read separately: secrets stay out of configs."""


def _check_host(host: object) -> str:
    if str(host) not in HOSTS:
        raise ConfigError(f"host must be one of {', '.join(HOSTS)}, not {host!r}.")
    return HOSTS[str(host)]


def _check_allowed_host(text: str) -> str:
    host = parse_host(f"[{text}]" if ":" in text else text)
    if host is None or host.port is not None:
        raise ConfigError(
            f"allowed_hosts must name each host without scheme and port, chat.example.org for example, not {text!r}."
        )
    return text


def _check_origin(text: str) -> str:
    """Refuse an origin that no browser sends: it would never match."""
    if text == "*":
        raise ConfigError("cors_origins must name the origins, https://chat.example.org for example, not '*'.")
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([^/@?#]+)", text)
    host = parse_host(match[2]) if match else None
    if match is None or host is None or match[2] != match[2].lower() or host.port == DEFAULT_PORTS.get(match[1], -1):
        raise ConfigError(
            "cors_origins must hold scheme, host and port as a browser sends them, http://localhost:5173 or "
            f"https://chat.example.org for example, not {text!r}."
        )
    return text


def _check_tracing(url: object) -> object:
    if url is not None and not str(url).startswith(("http://", "https://")):
        raise ConfigError(f"tracing must be a collector's address, http://localhost:4318 for example, not {url!r}.")
    if url is not None and not _has_opentelemetry():
        raise ConfigError("tracing needs packages that are not here: pip install 'resonance[otel]'.")
    return url


def _has_opentelemetry() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


class _Section(BaseModel):
    """A part of the config: no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EngineSettings(_Section):
    """The settings of a worker's engines; `checkpoints` maps served names to folders."""

    checkpoints: dict[str, str]
    dtype: Literal["auto", "fp32", "bf16"]
    quantize: Literal[None, "int8", "int4"]
    max_batch_size: int = Field(ge=1, le=4096)


class Sampling(_Section):
    """The sampling parameters where a request names none."""

    max_new_tokens: int = Field(ge=1, le=1_000_000)
    temperature: float = Field(ge=0, le=2)
    top_k: int = Field(ge=0, le=1_000_000)
    top_p: float = Field(ge=0, le=1)
    min_p: float = Field(ge=0, le=1)
    repetition_penalty: float = Field(ge=0.01, le=10)


class Limits(_Section):
    """The limits of one request, of one client, and of all together."""

    body_bytes: int = Field(ge=1024, le=1 << 30)
    bodies_bytes: int = Field(ge=1024, le=1 << 40)
    answer_bytes: int = Field(ge=16384, le=1 << 30)
    answers_bytes: int = Field(ge=16384, le=1 << 40)
    receive_s: float = Field(ge=0.1)
    write_s: float = Field(ge=0.1)
    connections: int = Field(ge=1, le=1_000_000)
    connections_per_address: int | None = Field(ge=1, le=1_000_000)
    exports: int = Field(ge=1, le=1_000_000)
    messages: int = Field(ge=1, le=1_000_000)
    message_chars: int = Field(ge=1, le=1 << 30)
    prompt_logprobs: int = Field(ge=1, le=1 << 30)
    import_lines: int = Field(ge=1, le=10_000_000)
    requests_per_minute: int | None = Field(ge=1, le=1_000_000_000)
    tokens_per_minute: int | None = Field(ge=1, le=1_000_000_000)
    streams: int | None = Field(ge=1, le=1_000_000)


class StoreSettings(_Section):
    """The database of the conversations; `max_bytes` is each owner's quota."""

    url: str
    retention_days: int | None = Field(ge=1, le=1_000_000)
    training_consent: Literal["ask", "given", "never"]
    max_bytes: int | None = Field(ge=1 << 16, le=1 << 50)


class FileSettings(_Section):
    """The documents that each owner may keep."""

    max_bytes: int = Field(ge=1024, le=1 << 30)
    max_count: int = Field(ge=0, le=1_000_000)
    max_total_bytes: int = Field(ge=1024, le=1 << 50)


class ShareSettings(_Section):
    """The shared conversations that each owner may have, and how long they may last."""

    max_count: int = Field(ge=0, le=1_000_000)
    max_days: int = Field(ge=1, le=3650)


class Settings(_Section):
    """All settings of a server."""

    engine: EngineSettings
    sampling: Sampling
    limits: Limits
    store: StoreSettings
    files: FileSettings
    shares: ShareSettings
    search: dict[str, Any]
    host: Annotated[str, BeforeValidator(_check_host)]
    port: int = Field(ge=1024, le=65535)
    device: Literal["auto", "cpu", "cuda"]
    auth: Literal["auto", "none"]
    explain: Literal["auto", "always", "never"]
    requires_keys: bool  # at the start; keys that are added later close an open server
    api_keys: tuple[EnvironmentKey, ...]  # of RESONANCE_API_KEYS alone
    cors_origins: tuple[Annotated[str, AfterValidator(_check_origin)], ...] = Field(strict=False)
    allowed_hosts: tuple[Annotated[str, AfterValidator(_check_allowed_host)], ...] = Field(strict=False)
    max_queue: int = Field(ge=0, le=1_000_000)
    root: Path  # the folder of the runs
    share: float = Field(ge=0, le=1)  # of the requests that the shadow answers
    memory_gb: float | None = Field(gt=0)
    context_length: int | None = Field(ge=16, le=1_000_000)
    timeout_s: float = Field(ge=0.001)
    grace_s: int = Field(ge=0, le=86_400)
    resume_s: float | None = Field(ge=0)
    hang_s: float = Field(ge=1)
    tracing: Annotated[str | None, BeforeValidator(_check_tracing)]
    log: Literal["debug", "info", "warning", "error"]


def read_settings(overrides: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Compose `configs/serve.yaml` with the environment and then the overrides, which win.

    Raises ConfigError or CheckpointError, in one sentence, for what cannot be served.
    """
    config = compose("serve", [*_from_environment(environment, overrides), *overrides])
    return _settings(config, parse_environment_keys(environment.get("RESONANCE_API_KEYS", "")))


def _from_environment(environment: Mapping[str, str], overrides: Sequence[str]) -> list[str]:
    """The environment as overrides, without the keys that the command line sets."""
    overridden = {override.partition("=")[0].lstrip("+") for override in overrides}
    found: list[str] = []
    for variable, key in ENVIRONMENT.items():
        value = environment.get(variable, "").strip()
        if not value or key in overridden:
            continue
        if variable == "SEARCH_ENABLED":
            found += ["search=duckduckgo"] if _is_true(variable, value) else ["search=off"]
        elif variable == "SEARCH_MAX_RESULTS":
            # The key exists only where a search is configured.
            if "search" in overridden or _is_true("SEARCH_ENABLED", environment.get("SEARCH_ENABLED", "") or "false"):
                found.append(f"{key}={value}")
        elif variable == "CORS_ORIGINS":
            found.append(f"{key}=[{','.join(map(_quoted, _listed(variable, value)))}]")
        elif value.lstrip("-").isdigit():
            found.append(f"{key}={value}")
        else:
            found.append(f"{key}={_quoted(value)}")
    return found


def _is_true(variable: str, value: str) -> bool:
    if value.lower() in ("true", "1", "yes", "on"):
        return True
    if value.lower() in ("false", "0", "no", "off"):
        return False
    raise ConfigError(f"{variable} must be true or false, not {value!r}.")


def _listed(variable: str, value: str) -> list[str]:
    """The parts of a JSON list of texts, or of a comma-separated list."""
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
    values["root"] = CHECKPOINTS if values["root"] is None else Path(str(values["root"])).expanduser()
    # Found once all other values are valid.
    checkpoint, shadow, values["checkpoints"] = values.pop("checkpoint"), values.pop("shadow"), {}
    for group, model in (("engine", EngineSettings), ("sampling", Sampling)):
        values[group] = {name: values.pop(name) for name in model.model_fields}
    values["store"]["url"] = values["store"]["url"] or default_url()
    values["search"] = values.get("search") or {}
    values["api_keys"] = api_keys
    values["requires_keys"] = values["auth"] == "auto" and bool(api_keys or read_owners())
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error.errors()[0])) from error
    if settings.auth == "auto" and settings.host != "127.0.0.1" and not settings.requires_keys:
        raise ConfigError(
            f"host={settings.host} lets other machines in: make keys for them with `resonance keys add NAME` or set "
            "RESONANCE_API_KEYS, or say auth=none if anybody may come in."
        )
    checkpoints = _checkpoints(checkpoint, settings.root)
    if shadow is not None:
        checkpoints[SHADOW] = _shadow(str(shadow), settings, checkpoints)
    engine = settings.engine.model_copy(update={"checkpoints": checkpoints})
    return settings.model_copy(update={"engine": engine})


def _sentence(error: ErrorDetails) -> str:
    """What is wrong with the value of a key, and which values it may have."""
    path = [str(part) for part in error["loc"] if isinstance(part, str)]
    key = ".".join(part for part in path if part not in ("engine", "sampling"))  # whose keys stand at the top
    if error["type"] == "extra_forbidden":
        return f"There is no key {key!r} in configs/serve.yaml."
    model: Any = Settings
    for part in path[:-1]:
        model = model.model_fields[part].annotation
    return f"{key} must be {_expected(model.model_fields[path[-1]])}, not {error['input']!r}."


def _expected(field: FieldInfo) -> str:
    """The values that a field may have, in words."""
    kinds: tuple[Any, ...] = get_args(field.annotation) or (field.annotation,)
    if get_origin(field.annotation) is Literal:
        *first, last = ("null" if choice is None else choice for choice in kinds)
        return f"{', '.join(first)} or {last}"
    if get_origin(field.annotation) is tuple:
        return "a list of texts, [a,b]"
    if str in kinds:
        return "a text"
    bounds: dict[type, Any] = {type(bound): bound for bound in field.metadata}
    if Gt in bounds:
        interval = f"above {bounds[Gt].gt}"
    elif Le in bounds:
        interval = f"from {bounds[Ge].ge} to {bounds[Le].le}"
    else:
        interval = f"from {bounds[Ge].ge} up"
    return f"a {'whole ' if int in kinds else ''}number {interval}{', or null' if NoneType in kinds else ''}"


def _checkpoints(checkpoint: object, root: Path) -> dict[str, str]:
    """The checkpoints' folders by served name; the server follows an alias, which is a name of its own.

    An unknown checkpoint is an error before any process starts.
    """
    names: list[Any] = list(checkpoint) if isinstance(checkpoint, list) else [checkpoint]
    if not names:
        raise ConfigError("checkpoint names nothing to serve; write checkpoint=latest or checkpoint=[a,b].")
    found = [Checkpoint.find(str(name), root) for name in names]
    aliases = read_aliases(root)
    served = [str(name) if str(name) in aliases else one.name for name, one in zip(names, found, strict=True)]
    folders = {name: str(checkpoint.folder.resolve()) for name, checkpoint in zip(served, found, strict=True)}
    if len(folders) < len(found):
        raise ConfigError(f"checkpoint={names} names two checkpoints that are called the same; give each its own name.")
    return folders


def _shadow(name: str, settings: Settings, checkpoints: Mapping[str, str]) -> str:
    """The folder of the shadow. Raises ConfigError where it could show nothing."""
    folder = str(Checkpoint.find(name, settings.root).folder.resolve())
    if folder in checkpoints.values():
        raise ConfigError(f"shadow={name} is served already; name another run, which answers beside it.")
    if settings.store.training_consent == "never":
        raise ConfigError(
            f"shadow={name} keeps pairs of answers for votes, which takes consent: store.training_consent must be ask "
            "or given, not never."
        )
    return folder
