"""Tools of a chat request: which functions the model may or must call, and what holds it to them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resonance.chat_template import Message
from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.tool_calling import CALL_START, ToolCall, call_grammar, tool_json
from serve.api.errors import ApiError
from serve.api.schemas.messages import ChatMessage, NamedTool
from serve.api.schemas.requests import ChatRequest
from serve.generation.sampling import MAX_SCHEMA_CHARS
from serve.models.served_model import ServedModel
from serve.storage.tables import MessageRow

GUIDED = ("guided_json", "guided_regex", "guided_choice", "guided_grammar")


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions that an answer may call (`callable`), or must call; `described` are those in the prompt."""

    described: tuple[str, ...]
    callable: tuple[str, ...]
    required: bool
    several: bool


def tools_of(body: ChatRequest, model: ServedModel) -> Tools | None:
    """Return the tools of a request; None where nothing is to be called. Raises ApiError 400."""
    choice = body.tool_choice or "auto"
    if not body.tools:
        if choice not in ("auto", "none"):
            raise ApiError(400, "tool_choice needs tools.", param="tool_choice", code="invalid_value")
        return None
    if choice == "none":
        return None
    check_template(model, "tools")
    described = {tool.function.name: tool_json(tool.function.described()) for tool in body.tools}
    if len(described) < len(body.tools):
        raise ApiError(400, "Two tools have one name; each needs its own.", param="tools", code="invalid_value")
    size = sum(map(len, described.values()))
    if size > MAX_SCHEMA_CHARS:
        raise ApiError(
            400, f"The tools have {size} characters, and at most {MAX_SCHEMA_CHARS} are taken.", param="tools",
            code="invalid_value",
        )  # fmt: skip
    callable = tuple(described.values())
    if isinstance(choice, NamedTool):
        if choice.function.name not in described:
            raise ApiError(
                400, "tool_choice names a function that is not among the tools.", param="tool_choice",
                code="invalid_value",
            )  # fmt: skip
        callable = (described[choice.function.name],)
    for i, tool in enumerate(body.tools):
        if (tool.function.parameters or {}).get("type", "object") != "object":
            raise ApiError(
                400, "A function's parameters are a schema of the type object.", code="invalid_value",
                param=f"tools.{i}.function.parameters",
            )  # fmt: skip
    named = choice not in ("auto", "required")
    several = body.parallel_tool_calls is not False and not named
    return Tools(tuple(described.values()), callable, choice != "auto", several)


def check_template(model: ServedModel, param: str) -> None:
    """Raise ApiError 400 where the model's chat template cannot express tools."""
    if not model.template.has_tools:
        raise ApiError(
            400,
            f"The chat template of this model ({model.template.name}) cannot express tools; a model that was trained "
            "with template=chatml can.",
            param=param,
            code="unsupported_template",
        )


async def call_params(tools: Tools, body: ChatRequest) -> dict[str, Any]:
    """Return the engine's parameters that hold a text to the tools, checked. Raises ApiError 400."""
    for name in GUIDED:
        if getattr(body, name) is not None:
            raise ApiError(
                400, f"A text with tools cannot be held to {name} too; give one of them, or response_format.",
                param=name, code="invalid_value",
            )  # fmt: skip
    answer, format = None, body.response_format
    if format is not None and format.type != "text":
        answer = {"type": "object"} if format.json_schema is None else format.json_schema.schema_
        if len(json.dumps(answer)) > MAX_SCHEMA_CHARS:
            raise ApiError(
                400, f"A schema has at most {MAX_SCHEMA_CHARS} characters.", param="response_format",
                code="invalid_value",
            )  # fmt: skip
    await _check([call_grammar([tool], required=True, several=False) for tool in tools.callable])
    grammar = call_grammar(
        tools.callable, required=tools.required, several=tools.several, answer_schema=None if tools.required else answer
    )
    if answer is not None:
        await _check([grammar], "response_format")
    return {"grammar": grammar, "grammar_trigger": CALL_START}


async def _check(grammars: Sequence[str], param: str | None = None) -> None:
    # Here: the library of grammars is not needed by other requests.
    from resonance.engine.guided_decoding import check_grammar

    for i, grammar in enumerate(grammars):
        try:
            await asyncio.to_thread(check_grammar, SamplingParams(grammar=grammar))
        except EngineError as error:
            where = param or f"tools.{i}.function.parameters"
            reason = str(error).partition(": ")[2] or str(error)
            raise ApiError(
                400, f"The text cannot be held to {where}: {reason[:300]}", param=where, code="invalid_value"
            ) from error


def stored_message(row: MessageRow) -> Message:
    """Return a stored message of a user, an assistant or a tool."""
    if row.role == "tool":
        return Message("tool", row.content)
    return Message("user" if row.role == "user" else "assistant", row.content, tool_calls=_calls(row.tool_calls or ()))


def new_message(message: ChatMessage) -> Message:
    """Return a request's message of a user, an assistant or a tool."""
    if message.role == "tool":
        return Message("tool", message.text())
    calls = tuple(ToolCall(call.function.name, call.function.arguments) for call in message.tool_calls or ())
    return Message("user" if message.role == "user" else "assistant", message.text(), tool_calls=calls)


def in_order_of_calls(history: Sequence[MessageRow], messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the messages with the results of several calls in the calls' order, as templates render them.

    Raises ApiError 400 for a result of no call that stands before it.
    """
    last = next((row for row in reversed(history) if row.role != "tool"), None)  # some results may be stored already
    ids = [] if last is None else [str(call["id"]) for call in last.tool_calls or ()]
    ordered: list[ChatMessage] = []
    results: list[ChatMessage] = []
    for i, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in ids:
                raise ApiError(
                    400,
                    "A message of the role tool follows an assistant's message whose tool_calls have its tool_call_id.",
                    param=f"messages.{i}.tool_call_id",
                    code="invalid_messages",
                )
            results.append(message)
            continue
        ordered += sorted(results, key=lambda result: ids.index(result.tool_call_id or ""))
        results = []
        ordered.append(message)
        ids = [call.id for call in message.tool_calls or ()]
    return [*ordered, *sorted(results, key=lambda result: ids.index(result.tool_call_id or ""))]


def _calls(calls: Sequence[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call["function"]["name"], call["function"]["arguments"]) for call in calls)
