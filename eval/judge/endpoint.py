"""The judge's endpoint: where it is and how it is asked, checked before anything runs."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httpx

from eval import EvalError

_OURS = ("model", "messages", "stream", "n")  # fields of a request that `extra` must not change
_PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint and how to ask it.

    `url` is the base URL, before `/chat/completions`. `extra` holds further fields of the request; None removes one.
    A request is given up after `timeout` seconds, and asked `attempts` times in all; the wait before the next attempt
    starts at `backoff` seconds and doubles up to `max_wait`, unless the server says how long to wait. Raises EvalError
    for a setting that cannot be.
    """

    url: str
    model: str
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 64
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float = 60.0
    attempts: int = 5
    backoff: float = 1.0
    max_wait: float = 60.0
    concurrency: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _base_url(self.url))
        object.__setattr__(self, "model", text_setting("model", self.model, "name the model as the endpoint calls it"))
        for name in ("max_tokens", "attempts", "concurrency"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("temperature", "backoff", "timeout", "max_wait"):
            require_at_least(name, getattr(self, name), 0)
        for name in ("timeout", "max_wait"):
            if not getattr(self, name):
                raise EvalError(f"task.judge.{name} must be more than 0 seconds.")
        if not isinstance(cast(object, self.extra), Mapping):
            raise EvalError(
                f"task.judge.extra must be fields of a request, such as {{top_p: 1.0}}, not {self.extra!r}."
            )
        for name in _OURS:
            if name in self.extra:
                raise EvalError(f"task.judge.extra cannot set {name!r}, which the judge sets itself.")

    def body(self, prompt: str, repetition: int = 0) -> dict[str, object]:
        """The request for one prompt; each repetition has its own seed."""
        fields: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "seed": self.seed + repetition,
            "max_tokens": self.max_tokens,
            **self.extra,
        }
        return {name: value for name, value in fields.items() if value is not None}


def require_at_least(name: str, value: object, least: int) -> None:
    """Raise EvalError unless the judge's setting `name` is a finite number of at least `least`."""
    if not (isinstance(value, int | float) and least <= value < math.inf):
        raise EvalError(f"task.judge.{name} must be at least {least}, not {value}.")


def text_setting(name: str, value: object, hint: str) -> str:
    """The judge's setting `name` as text. Raises EvalError, with the hint, if it is not set or no text."""
    text = "" if value is None else str(value).strip()
    if not text or isinstance(value, list | dict):
        raise EvalError(f"task.judge.{name} is not set: {hint}.")
    return text


def read_api_key(variable: str | None) -> str | None:
    """The API key in an environment variable; None if it is not set, or there is no variable.

    Raises EvalError for one that no header can hold, without repeating it.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EvalError(f"The environment variable {variable} holds no API key: it has characters that no key has.")
    return key or None


def _base_url(url: str) -> str:
    """The URL without a slash or the path of chat completions at its end.

    An address with a user, a password or a query is refused without repeating it, as it would be kept with the results.
    """
    url = text_setting(
        "url", url, "name an OpenAI-compatible endpoint, such as task.judge.url=http://127.0.0.1:8000/v1"
    )
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise EvalError("task.judge.url is no URL; it is like http://127.0.0.1:8000/v1.") from None
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise EvalError(
            "task.judge.url must have no user, password, query or fragment, because it is kept with the results; "
            "the API key is read from the environment variable that task.judge.api_key_env names."
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise EvalError(f"task.judge.url is {url}, but must start with http:// or https:// and a host.")
    return str(parsed).rstrip("/").removesuffix(_PATH).rstrip("/")
