"""The engine's sampling parameters from a request's fields and the server's defaults."""

from typing import Any

from serve.api.errors import ApiError
from serve.api.schemas.requests import SamplingFields
from serve.models.served_model import ServedModel
from serve.settings import Sampling

MIN_TOP_P = 1e-9  # OpenAI accepts top_p 0, which leaves the likeliest token


def engine_params(
    body: SamplingFields, defaults: Sampling, model: ServedModel, *, max_new_tokens: int, logprobs: int | None
) -> dict[str, Any]:
    """Return the fields of the engine's SamplingParams. Raises ApiError for token ids that the model does not have."""
    return {
        "max_new_tokens": max_new_tokens,
        "temperature": _first(body.temperature, defaults.temperature),
        "top_k": _first(body.top_k, defaults.top_k),
        "top_p": max(_first(body.top_p, defaults.top_p), MIN_TOP_P),
        "min_p": _first(body.min_p, defaults.min_p),
        "repetition_penalty": _first(body.repetition_penalty, defaults.repetition_penalty),
        "presence_penalty": _first(body.presence_penalty, 0.0),
        "frequency_penalty": _first(body.frequency_penalty, 0.0),
        "logit_bias": _bias(body, model),
        "stop": body.stops(),
        "seed": None if body.seed is None else body.seed % 2**63,
        "logprobs": logprobs,
    }


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _bias(body: SamplingFields, model: ServedModel) -> dict[int, float] | None:
    if not body.logit_bias:
        return None
    bias = {int(token): value for token, value in body.logit_bias.items()}
    if max(bias) >= model.tokenizer.vocab_size:
        raise ApiError(
            400,
            f"logit_bias names token {max(bias)}; the model has {model.tokenizer.vocab_size} tokens.",
            param="logit_bias",
            code="invalid_value",
        )
    return bias
