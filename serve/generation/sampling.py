"""The engine's sampling parameters from a request's fields and the server's defaults."""

import asyncio
import json
import re
from typing import Any

from resonance.engine.sampling_params import EngineError, SamplingParams
from serve.api.errors import ApiError
from serve.api.schemas.requests import SamplingFields
from serve.models.served_model import ServedModel
from serve.settings import Sampling

MAX_SCHEMA_CHARS = 65536
MIN_TOP_P = 1e-9  # OpenAI accepts top_p 0, which leaves the likeliest token


def engine_params(
    body: SamplingFields, defaults: Sampling, model: ServedModel, *, max_new_tokens: int, logprobs: int | None
) -> dict[str, Any]:
    """Return the fields of the engine's SamplingParams. Raises ApiError for token ids that the model does not have."""
    min_tokens = body.min_tokens or 0
    if min_tokens > max_new_tokens:
        raise ApiError(
            400,
            f"min_tokens is {min_tokens}, and the text can have {max_new_tokens} tokens; ask for fewer, or raise "
            "max_tokens.",
            param="min_tokens",
            code="invalid_value",
        )
    return {
        "max_new_tokens": max_new_tokens,
        "temperature": _first(body.temperature, defaults.temperature),
        "top_k": _first(body.top_k, defaults.top_k),
        "top_p": max(_first(body.top_p, defaults.top_p), MIN_TOP_P),
        "min_p": _first(body.min_p, defaults.min_p),
        "repetition_penalty": _repetition_penalty(body, defaults),
        "presence_penalty": _first(body.presence_penalty, 0.0),
        "frequency_penalty": _first(body.frequency_penalty, 0.0),
        "logit_bias": _bias(body, model),
        "stop": body.stops(),
        "seed": None if body.seed is None else body.seed % 2**63,
        "logprobs": logprobs,
        "ignore_eos": bool(body.ignore_eos),
        "min_new_tokens": min_tokens,
    }


async def guided_params(body: SamplingFields) -> dict[str, Any]:
    """Return the engine's parameter for the format of the text, checked; none where it is free. Raises ApiError 400."""
    given: dict[str, tuple[str, Any]] = {}  # by the request's field: the engine's parameter and its value
    response_format = getattr(body, "response_format", None)
    if response_format is not None and response_format.type != "text":
        schema = {"type": "object"} if response_format.json_schema is None else response_format.json_schema.schema_
        given["response_format"] = "json_schema", schema
    if body.guided_json is not None:
        given["guided_json"] = "json_schema", body.guided_json
    if body.guided_regex is not None:
        given["guided_regex"] = "regex", body.guided_regex
    if body.guided_choice is not None:
        given["guided_choice"] = "regex", "|".join(map(re.escape, body.guided_choice))
    if body.guided_grammar is not None:
        given["guided_grammar"] = "grammar", body.guided_grammar
    if not given:
        return {}
    *others, name = given
    if others:
        raise ApiError(
            400,
            f"A text cannot be held to {' and '.join(given)} at once; give one of them.",
            param=name,
            code="invalid_value",
        )
    parameter, value = given[name]
    if parameter == "json_schema" and not isinstance(value, str) and len(json.dumps(value)) > MAX_SCHEMA_CHARS:
        raise ApiError(400, f"A schema has at most {MAX_SCHEMA_CHARS} characters.", param=name, code="invalid_value")
    # Here: the library of grammars is not needed by other requests.
    from resonance.engine.guided_decoding import check_grammar

    try:
        params: dict[str, Any] = {parameter: value}
        await asyncio.to_thread(check_grammar, SamplingParams(**params))
    except EngineError as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise ApiError(
            400, f"The text cannot be held to {name}: {reason[:300]}", param=name, code="invalid_value"
        ) from error
    return {parameter: value}


def _repetition_penalty(body: SamplingFields, defaults: Sampling) -> float:
    given = {value for value in (body.repetition_penalty, body.repeat_penalty) if value is not None}
    if len(given) > 1:
        raise ApiError(
            400, "repeat_penalty is repetition_penalty; give one of them.", param="repeat_penalty", code="invalid_value"
        )
    return given.pop() if given else defaults.repetition_penalty


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
