"""From a request to the prompts that the workers compute: chats are rendered and cut to the window, texts tokenised."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resonance.chat_template import Fitted, Message
from serve.api.auth import Caller
from serve.api.errors import ApiError, store_unavailable
from serve.api.schemas.messages import ChatMessage
from serve.api.schemas.requests import ChatRequest, CompletionRequest, SearchQuery
from serve.api.schemas.responses import PromptSize
from serve.api.service import Service
from serve.generation.grounding import Grounding, Unsearched, ground
from serve.generation.sampling import engine_params, guided_params
from serve.generation.source_selection import SOURCES, check_sources
from serve.generation.tools import (
    Tools,
    call_params,
    check_template,
    in_order_of_calls,
    new_message,
    stored_message,
    tools_of,
)
from serve.models.served_model import ServedModel
from serve.settings import Sampling
from serve.storage.errors import StoreUnavailable
from serve.storage.store import NewMessage, new_message_id
from serve.storage.tables import ConversationRow, MessageRow
from serve.workers.messages import PromptInput

LONG_CHARS = 20_000  # longer texts are tokenised on a thread, so that the event loop goes on
DEFAULT_MAX_TOKENS = 16  # of text completions: OpenAI's
MODEL_DISTRIBUTION = Sampling(
    max_new_tokens=DEFAULT_MAX_TOKENS, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0
)
"""The defaults of text completions; the server's defaults are for chats."""
MAX_ANSWERS = 128  # of a text completion: prompts times n
# The memory that an answer takes while it is collected and sent whole.
TOKEN_BYTES = 200  # per token, with its text in the answer
CHAT_LOGPROB_BYTES = 1000  # per log-probability: the object, and its text
COMPLETION_LOGPROB_BYTES = 300


@dataclass(frozen=True, slots=True)
class Conversation:
    """All messages of a prompt. `new_messages` are those that are new to the store; they follow `parent_id` there.

    The answer begins with `prefix`, which the request gave. `search_sources` is its stored choice of sources, or what
    a new one is stored with.
    """

    messages: list[Message]
    new_messages: list[NewMessage]
    parent_id: str | None
    prefix: str
    search_sources: str | None


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """The prompt of a chat, and how much the model may generate."""

    conversation: Conversation
    fitted: Fitted
    grounding: Grounding | None
    unsearched: Unsearched | None
    max_new_tokens: int
    calls_tools: bool  # whether the answer may have calls of functions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's prompts; `chat` is None for a text completion."""

    inputs: list[PromptInput]
    whole_bytes: int  # memory of the answer until it is sent whole
    logprobs: bool
    chat: ChatPrompt | None = None

    def prompt_tokens(self) -> int:
        """Return the tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self.inputs)


async def prepare_chat(service: Service, caller: Caller, model: ServedModel, body: ChatRequest) -> Prepared:
    """Render the prompt and choose the sampling parameters. Raises ApiError."""
    tools = tools_of(body, model)
    guided = await guided_params(body) if tools is None else await call_params(tools, body)
    if guided and _without_prefix(body) is not body.messages and body.messages[-1].text():
        raise ApiError(
            400,
            "An answer that continues a message cannot be held to a format, nor call tools.",
            param="messages",
            code="invalid_value",
        )
    chat = await render_chat(service, caller, model, body)
    n, max_new_tokens = body.n or 1, chat.max_new_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    params = engine_params(body, service.settings.sampling, model, max_new_tokens=max_new_tokens, logprobs=logprobs)
    params |= guided
    nbytes = _whole_bytes(n * max_new_tokens, logprobs, CHAT_LOGPROB_BYTES)
    return Prepared([PromptInput(chat.fitted.prompt_ids, params, n=n)], nbytes, logprobs is not None, chat)


async def prepare_completion(service: Service, model: ServedModel, body: CompletionRequest) -> Prepared:
    """Tokenise the prompts of a text completion. Raises ApiError."""
    n, max_tokens, guided = body.n or 1, _max_tokens(body), await guided_params(body)
    texts = _texts(body)
    limit = model.context_length - (1 if max_tokens else 0)
    if sum(len(text) for text in texts if isinstance(text, str)) > LONG_CHARS:
        prompts = await asyncio.to_thread(tokenize, texts, model, limit, "prompt")
    else:
        prompts = tokenize(texts, model, limit, "prompt")
    prompt_tokens = sum(map(len, prompts))
    _check_prompt_logprobs(body, prompt_tokens * n, service.settings.limits.prompt_logprobs)
    inputs: list[PromptInput] = []
    generated = 0
    for ids in prompts:
        params = None
        max_new_tokens = min(max_tokens, model.context_length - len(ids))
        if max_tokens:
            params = engine_params(
                body, MODEL_DISTRIBUTION, model, max_new_tokens=max_new_tokens, logprobs=body.logprobs
            )
            params |= guided
        generated += max_new_tokens
        score_top = body.logprobs if body.echo and len(ids) > 1 else None
        inputs.append(PromptInput(ids, params, n=n, score_top=score_top))
    echoed = prompt_tokens if body.echo else 0
    nbytes = _whole_bytes((generated + echoed) * n, body.logprobs, COMPLETION_LOGPROB_BYTES)
    return Prepared(inputs, nbytes, body.logprobs is not None)


def validate_completion(service: Service, body: CompletionRequest) -> None:
    """Raise ApiError 400 for a well-formed request that cannot be answered."""
    texts = _texts(body)
    if len(texts) * (body.n or 1) > MAX_ANSWERS:
        raise ApiError(
            400, f"At most {MAX_ANSWERS} answers a request (prompts times n).", param="n", code="invalid_value"
        )
    max_chars = service.settings.limits.message_chars
    if any(isinstance(text, str) and len(text) > max_chars for text in texts):
        raise ApiError(400, f"A prompt has at most {max_chars} characters.", param="prompt", code="prompt_too_long")
    if not _max_tokens(body) and not body.echo:
        raise ApiError(
            400,
            "max_tokens is 0 and echo is not asked for: nothing is to be done.",
            param="max_tokens",
            code="invalid_value",
        )


def validate_chat(service: Service, body: ChatRequest) -> None:
    """Raise ApiError 400 for a well-formed request that cannot be answered."""
    limits = service.settings.limits
    if len(body.messages) > limits.messages:
        raise ApiError(
            400, f"At most {limits.messages} messages a request.", param="messages", code="too_many_messages"
        )
    for i, message in enumerate(body.messages):
        if len(message.text()) > limits.message_chars:
            raise ApiError(
                400,
                f"A message has at most {limits.message_chars} characters.",
                param=f"messages.{i}.content",
                code="message_too_long",
            )
    messages = _without_prefix(body)
    if (messages and messages[-1].role not in ("user", "tool")) or not (messages or body.parent_id):
        raise ApiError(
            400,
            "The last message must be the user's, a tool's, or the beginning of the answer to it.",
            param="messages",
            code="invalid_messages",
        )
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true.", param="top_logprobs", code="invalid_value")
    if body.session_id is None and body.parent_id is not None:
        raise ApiError(400, "parent_id needs a session_id.", param="parent_id", code="invalid_value")
    if body.session_id is not None and (body.n or 1) > 1:
        raise ApiError(
            400, "A stored conversation takes one answer at a time: n must be 1.", param="n", code="invalid_value"
        )
    if body.search and service.retriever is None:
        raise ApiError(400, "There is no search on this server.", param="search", code="search_disabled")
    check_sources(service, body.search_sources)
    if isinstance(body.search, SearchQuery) and service.retriever is not None:
        missing = set(body.search.sources or ()) - {SOURCES[kind] for kind in service.retriever.kinds}
        if missing:
            there = " and ".join(SOURCES[kind] for kind in service.retriever.kinds)
            raise ApiError(
                400,
                f"This server does not search {' and '.join(sorted(missing))}; it searches {there}.",
                param="search.sources",
                code="search_disabled",
            )


async def render_chat(service: Service, caller: Caller, model: ServedModel, body: ChatRequest) -> ChatPrompt:
    """Read the conversation, search where that is on, and keep the newest turns that fit. Raises ApiError."""
    tools = tools_of(body, model)
    conversation = await _read_conversation(service, caller, body, tools)
    messages: Sequence[Message] = conversation.messages
    if any(message.uses_tools for message in messages):
        check_template(model, "messages")
    max_tokens = body.max_completion_tokens or body.max_tokens or service.settings.sampling.max_new_tokens
    asks = messages[-1].role == "user"
    stored = conversation.search_sources
    found = await ground(service, caller, model, body, messages, max_tokens, stored) if asks else None
    grounding = found if isinstance(found, Grounding) else None
    if grounding is not None:
        messages = grounding.with_context(messages)
    prefix = conversation.prefix
    described = sum(map(len, tools.described)) if tools else 0
    if sum(len(message.content) for message in messages) + len(prefix) + described > LONG_CHARS:
        fitted = await asyncio.to_thread(model.fit, messages, max_tokens, prefix)
    else:
        fitted = model.fit(messages, max_tokens, prefix)
    unsearched = found if isinstance(found, Unsearched) else None
    max_new_tokens = min(max_tokens, model.context_length - len(fitted.prompt_ids))
    return ChatPrompt(conversation, fitted, grounding, unsearched, max_new_tokens, tools is not None)


async def measure_chat(service: Service, model: ServedModel, body: ChatRequest) -> PromptSize:
    """Count the tokens of the request's system prompt and newest message, as its prompt would have them."""
    messages, _ = _join([], body, ())
    max_tokens = body.max_completion_tokens or body.max_tokens or service.settings.sampling.max_new_tokens
    newest = [message for message in messages if message.role == "system"]
    newest += [message for message in messages if message.role == "user"][-1:]
    count = model.count_prompt
    if sum(len(message.content) for message in newest) > LONG_CHARS:
        needed, own = await asyncio.to_thread(count, newest)
    else:
        needed, own = count(newest)
    room = model.prompt_budget(max_tokens)
    return PromptSize(
        message_tokens=own,
        prompt_tokens=needed,
        room=room,
        answer_tokens=model.context_length - room,
        context_length=model.context_length,
        fits=needed <= room,
    )


async def _read_conversation(service: Service, caller: Caller, body: ChatRequest, tools: Tools | None) -> Conversation:
    """Return the request's messages after the stored ones that they follow. Raises ApiError 404 and 503."""
    history: list[MessageRow] = []
    search_sources = body.search_sources
    if body.session_id is not None:
        row, history = await _history(service, caller.owner, body.session_id, body)
        search_sources = search_sources if row is None else row.search_sources
    messages, new = _join(history, body, () if tools is None else tools.described)
    if messages[-1].role not in ("user", "tool"):
        raise ApiError(400, "There is no question at that place to answer.", param="parent_id", code="invalid_messages")
    last = body.messages[-1]
    prefix = last.text() if last.role == "assistant" else ""
    return Conversation(messages, new, history[-1].id if history else None, prefix, search_sources)


async def _history(
    service: Service, owner: str, session_id: str, body: ChatRequest
) -> tuple[ConversationRow | None, list[MessageRow]]:
    """Return the stored conversation, if any, and its messages that the request's messages follow, oldest first."""
    try:
        conversation, rows = await service.store.conversation(owner, session_id) or (None, [])
    except StoreUnavailable as error:
        raise store_unavailable(error) from error
    by_id = {row.id: row for row in rows}
    if "parent_id" not in body.model_fields_set:
        parent_id = rows[-1].id if rows else None
    else:
        parent_id = body.parent_id
        if parent_id is not None and parent_id not in by_id:
            raise ApiError(404, "There is no such message in this conversation.", param="parent_id", code="not_found")
    chain: list[MessageRow] = []
    # A parent may be missing: the conversation was given to another owner while its answer was under way.
    while parent_id is not None and (row := by_id.get(parent_id)) is not None:
        chain.append(row)
        parent_id = row.parent_id
    return conversation, chain[::-1]


def _join(
    history: Sequence[MessageRow], body: ChatRequest, tools: tuple[str, ...]
) -> tuple[list[Message], list[NewMessage]]:
    """Return all messages of the prompt, with the tools' descriptions, and those of them that are new to the store.

    There is one system prompt: the request's, else the newest stored one.
    """
    system_prompts = [m.text() for m in body.messages if m.role in ("system", "developer")]
    stored = [row.content for row in history if row.role == "system"]
    system = "\n\n".join(system_prompts) if system_prompts else (stored[-1] if stored else None)
    past = [stored_message(row) for row in history if row.role != "system"]
    own = in_order_of_calls(history, [m for m in _without_prefix(body) if m.role not in ("system", "developer")])
    turns = [new_message(message) for message in own]
    # In a stored conversation, an empty system prompt takes the former one away.
    given = None if system == "" and body.session_id is not None else system
    start = [] if given is None and not tools else [Message("system", given or "", tools=tools)]
    messages = [*start, *past, *turns]
    if body.session_id is None:
        return messages, []
    new = [
        NewMessage(
            message.role,
            message.text(),
            new_message_id(),
            tool_calls=[call.model_dump() for call in message.tool_calls] if message.tool_calls else None,
            tool_call_id=message.tool_call_id,
        )
        for message in own
    ]
    if system_prompts and stored[-1:] != [system] and system is not None:
        new.insert(0, NewMessage("system", system, new_message_id()))
    return messages, new


def _without_prefix(body: ChatRequest) -> Sequence[ChatMessage]:
    """Return the request's messages without the beginning of the answer, if it gives one."""
    last = body.messages[-1]
    return body.messages[:-1] if last.role == "assistant" and not last.tool_calls else body.messages


def _whole_bytes(tokens: int, top_logprobs: int | None, logprob_bytes: int) -> int:
    """Return the most memory that an answer takes while it is collected and sent whole."""
    return tokens * (TOKEN_BYTES + (0 if top_logprobs is None else logprob_bytes * (1 + top_logprobs)))


def _max_tokens(body: CompletionRequest) -> int:
    return DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens


def _texts(body: CompletionRequest) -> list[str | list[int]]:
    """Return the prompts of a text completion; a request may give one or several."""
    prompt: Any = body.prompt
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)


def tokenize(texts: Sequence[str | list[int]], model: ServedModel, limit: int, param: str) -> list[list[int]]:
    """Return each text's token ids; an empty text is the end-of-text token, as in GPT-2's training.

    Raises ApiError 400, about the field `param`, for unknown ids and for a text of more than `limit` tokens.
    """
    prompts: list[list[int]] = []
    for text in texts:
        ids: list[int] = (model.tokenizer.encode(text) if isinstance(text, str) else text) or [model.tokenizer.eot_id]
        if max(ids) >= model.tokenizer.vocab_size:
            raise ApiError(
                400,
                f"{param} has token {max(ids)}; the model has {model.tokenizer.vocab_size} tokens.",
                param=param,
                code="invalid_value",
            )
        if len(ids) > limit:
            raise ApiError(
                400,
                f"The {param} is too long. This model's maximum context length is {model.context_length} tokens, and a "
                f"text of it has {len(ids)}: there is room for {limit}; shorten it.",
                param=param,
                code="context_length_exceeded",
            )
        prompts.append(ids)
    return prompts


def _check_prompt_logprobs(body: CompletionRequest, tokens: int, limit: int) -> None:
    """Raise ApiError 400 where the log-probabilities of `tokens` echoed tokens would be more than `limit`."""
    if not body.echo or body.logprobs is None:
        return
    count = tokens * (body.logprobs + 1)
    if count > limit:
        raise ApiError(
            400,
            f"The answer would echo {count} log-probabilities (prompt tokens times n times logprobs + 1), and the "
            f"server gives at most {limit}; send fewer or shorter prompts, or ask for a smaller n or logprobs.",
            param="logprobs",
            code="too_many_logprobs",
        )
