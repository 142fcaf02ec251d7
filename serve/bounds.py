"""Which values the keys of `configs/serve.yaml` may have."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from math import inf
from typing import Any, TypeGuard, cast

from omegaconf import DictConfig, OmegaConf

from resonance.hydra_config import ConfigError
from serve.middleware.cors import DEFAULT_PORTS
from serve.middleware.host import parse_host

CHOICES: dict[str, tuple[str | None, ...]] = {
    "auth": ("auto", "none"),
    "device": ("auto", "cpu", "cuda"),
    "dtype": ("auto", "fp32", "bf16"),
    "quantize": (None, "int8", "int4"),
    "log": ("debug", "info", "warning", "error"),
}
WHOLE: dict[str, tuple[int, int]] = {
    "port": (1024, 65535),
    "max_batch_size": (1, 4096),
    "max_queue": (0, 1_000_000),
    "max_new_tokens": (1, 1_000_000),
    "grace_s": (0, 86_400),
    "top_k": (0, 1_000_000),
    "limits.body_bytes": (1024, 1 << 30),
    "limits.bodies_bytes": (1024, 1 << 40),
    "limits.answer_bytes": (16384, 1 << 30),
    "limits.answers_bytes": (16384, 1 << 40),
    "limits.exports": (1, 1_000_000),
    "limits.connections": (1, 1_000_000),
    "limits.messages": (1, 1_000_000),
    "limits.message_chars": (1, 1 << 30),
    "limits.prompt_logprobs": (1, 1 << 30),
    "limits.import_lines": (1, 10_000_000),
}
MAYBE_WHOLE: dict[str, tuple[int, int]] = {
    "context_length": (16, 1_000_000),
    "limits.requests_per_minute": (1, 1_000_000_000),
    "limits.tokens_per_minute": (1, 1_000_000_000),
    "limits.streams": (1, 1_000_000),
    "limits.connections_per_address": (1, 1_000_000),
    "store.retention_days": (1, 1_000_000),
    "store.max_bytes": (1 << 16, 1 << 50),
}
"""Those that may also be null."""
NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 10.0),
    "timeout_s": (0.001, inf),
    "hang_s": (1.0, inf),
    "resume_s": (0.0, inf),
    "limits.receive_s": (0.1, inf),
    "limits.write_s": (0.1, inf),
}


def check(config: DictConfig) -> None:
    """Raise ConfigError, in one sentence, for the first value that cannot be."""
    for key, known in CHOICES.items():
        if OmegaConf.select(config, key) not in known:
            raise ConfigError(f"{key} must be {_listed(known)}, not {OmegaConf.select(config, key)!r}.")
    tracing = config.tracing
    if tracing is not None and not str(tracing).startswith(("http://", "https://")):
        raise ConfigError(f"tracing must be a collector's address, http://localhost:4318 for example, not {tracing!r}.")
    if tracing is not None and not _can_trace():
        raise ConfigError("tracing needs packages that are not here: pip install 'resonance[otel]'.")
    memory = config.memory_gb
    if memory is not None and (not _is_number(memory) or memory <= 0):
        raise ConfigError(f"memory_gb must be a number above 0, or null, not {memory!r}.")
    for host in _texts(config, "allowed_hosts"):
        _check_host(host)
    for origin in _texts(config, "cors_origins"):
        _check_origin(origin)
    for key, (least, most) in (WHOLE | MAYBE_WHOLE).items():
        value: object = OmegaConf.select(config, key)
        if value is None and key in MAYBE_WHOLE:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            otherwise = ", or null" if key in MAYBE_WHOLE else ""
            raise ConfigError(f"{key} must be a whole number from {least} to {most}{otherwise}, not {value!r}.")
    for key, (low, high) in NUMBERS.items():
        value = OmegaConf.select(config, key)
        if not _is_number(value) or not low <= value <= high:
            bounds = f"from {low:g} up" if high == inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"{key} must be a number {bounds}, not {value!r}.")


def _texts(config: DictConfig, key: str) -> list[str]:
    value: Any = OmegaConf.to_container(config)[key]  # type: ignore[index, call-overload]  # a dict, as config is one
    if not isinstance(value, list) or not all(isinstance(each, str) for each in cast(list[object], value)):
        raise ConfigError(f"{key} must be a list of texts, [a,b], not {value!r}.")
    return cast(list[str], value)


def _check_host(text: str) -> None:
    host = parse_host(f"[{text}]" if ":" in text else text)
    if host is None or host.port is not None:
        raise ConfigError(
            f"allowed_hosts must name each host without scheme and port, chat.example.org for example, not {text!r}."
        )


def _check_origin(text: str) -> None:
    """Refuse what no browser would send as an origin: it would never match."""
    if text == "*":
        raise ConfigError("cors_origins must name the origins, https://chat.example.org for example, not '*'.")
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([^/@?#]+)", text)
    host = parse_host(match[2]) if match else None
    if match is None or host is None or match[2] != match[2].lower() or host.port == DEFAULT_PORTS.get(match[1], -1):
        raise ConfigError(
            "cors_origins must hold scheme, host and port as a browser sends them, http://localhost:5173 or "
            f"https://chat.example.org for example, not {text!r}."
        )


def _can_trace() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(choices: Sequence[str | None]) -> str:
    *first, last = ("null" if choice is None else choice for choice in choices)
    return f"{', '.join(first)} or {last}"
