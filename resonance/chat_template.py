"""Chat templates for training, evaluation and serving: messages -> token ids and a loss mask, and back.

A template also fits a conversation into the context window; it knows nothing of models. Each segment of a prompt is
encoded separately, so that the tokens of a prefix never depend on what follows: a prompt has the same tokens at
inference as in training.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from resonance.errors import ResonanceError
from resonance.tokenizer import Tokenizer
from resonance.tool_calling import (
    RESULT_END,
    RESULT_START,
    TOOLS_END,
    TOOLS_START,
    ToolCall,
    split_calls,
    split_tools,
    with_calls,
    with_tools,
)

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class TemplateError(ResonanceError):
    """Messages that a template cannot render, an unknown template, or token ids that are not a conversation."""


class ContextOverflow(TemplateError):
    """The system prompt and the newest turn alone exceed the token budget."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(
            f"The system prompt and the newest message need {needed} tokens and there is room for {budget}; "
            "shorten the message or ask for fewer new tokens."
        )
        self.needed, self.budget = needed, budget


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `context` is the text that answers a user's message.

    A system message has the `tools` of the conversation, each function as `tool_calling.tool_json` writes it; an
    assistant's message may call them after its content. A message of the role `tool` is the result of a call; the
    results of several calls follow in the calls' order.
    """

    role: Role
    content: str
    context: str | None = None
    tools: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise TemplateError(f"A message's role is one of {', '.join(ROLES)}, not {self.role!r}.")
        for field, value, role in (
            ("a context", self.context, "user"),
            ("tools", self.tools or None, "system"),
            ("tool calls", self.tool_calls or None, "assistant"),
        ):
            if value is not None and self.role != role:
                owner = {"user": "a user's", "system": "a system", "assistant": "an assistant's"}[role]
                raise TemplateError(f"Only {owner} message can have {field}, not the {self.role}'s.")

    @property
    def uses_tools(self) -> bool:
        """Whether only a template that has tools can express the message."""
        return bool(self.tools or self.tool_calls or self.role == "tool")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens; `loss_mask` is true on the assistant's content and the token that ends it."""

    input_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation cut to a budget: the messages kept, the number dropped, the prompt's tokens."""

    messages: list[Message]
    dropped: int
    prompt_ids: list[int]


@dataclass(frozen=True, slots=True)
class Window:
    """How many tokens a conversation with a model may have.

    `context_length` limits prompt and answer together. `trained_length` is the longest conversation in the model's
    training: later positions are untrained, so older turns are kept up to that length only. None: the whole context.
    """

    context_length: int
    trained_length: int | None = None

    @property
    def history_length(self) -> int:
        """The limit of prompt and answer together where the prompt holds older turns."""
        return min(self.context_length, self.trained_length or self.context_length)

    def prompt_budget(self, max_new_tokens: int) -> int:
        """The limit of a prompt: `max_new_tokens`, but at most a quarter of the window, are reserved for the answer."""
        return _without_answer(self.context_length, max_new_tokens)

    def history_budget(self, max_new_tokens: int) -> int:
        """The limit of a prompt that holds older turns."""
        return _without_answer(self.history_length, max_new_tokens)


def _without_answer(length: int, max_new_tokens: int) -> int:
    return length - max(1, min(max_new_tokens, length // 4))


class ChatTemplate(ABC):
    """The format of messages for a model; each checkpoint records its template's name.

    `special_tokens` are those that the template adds to GPT-2's vocabulary. `jinja` is the same format as a Hugging
    Face chat template, for other programs; `former_jinja` are those of earlier versions, which render conversations
    without tools alike. `marked_jinja` also marks what is supervised, as transformers' `return_assistant_tokens_mask`
    needs it; other programs may not know the marks. `has_tools` says whether it can express functions, calls and
    results.
    """

    name: ClassVar[str]
    special_tokens: ClassVar[tuple[str, ...]] = ()
    jinja: ClassVar[str]
    marked_jinja: ClassVar[str]
    former_jinja: ClassVar[tuple[str, ...]] = ()
    has_tools: ClassVar[bool] = False
    end_id: int  # the token that ends an assistant's turn

    def __init__(self, tokenizer: Tokenizer) -> None:
        missing = [token for token in self.special_tokens if token not in tokenizer.special_tokens]
        if missing:
            raise TemplateError(f"The {self.name} template needs a tokenizer with the token(s) {', '.join(missing)}.")
        self.tokenizer = tokenizer

    @staticmethod
    def named(name: str, tokenizer: Tokenizer | None = None) -> "ChatTemplate":
        """Make the template of that name; without a tokenizer, with one that has the template's special tokens."""
        if name not in TEMPLATES:
            raise TemplateError(f"There is no chat template {name!r}; there are {', '.join(TEMPLATES)}.")
        template = TEMPLATES[name]
        return template(tokenizer or Tokenizer.gpt2(template.special_tokens))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Rendered:
        """Render messages as token ids and a loss mask of the same length.

        With `add_generation_prompt` the ids end where an answer starts. Raises TemplateError when a system message
        is not the first message.
        """
        ids: list[int] = []
        mask: list[bool] = []
        for segment in self._segments(messages, add_generation_prompt):
            ids += segment.ids
            mask += [segment.supervised] * len(segment.ids)
        return Rendered(ids, mask)

    @abstractmethod
    def parse(self, input_ids: Sequence[int]) -> list[Message]:
        """Parse a conversation from its tokens; an unfinished answer is kept as a message.

        Raises TemplateError where the ids are not a conversation in this template.
        """

    def fit(self, messages: Sequence[Message], *, budget: int, history_budget: int | None = None) -> Fitted:
        """Keep the newest turns whose prompt has at most `budget` tokens.

        Drops whole turns, oldest first; keeps the system prompt and the newest user message with everything after it.
        `history_budget` limits a prompt that holds older turns; one without them may have `budget` tokens. Raises
        ContextOverflow when a prompt without older turns does not fit.
        """
        first = 1 if messages and messages[0].role == "system" else 0
        starts = [first, *(i for i, message in enumerate(messages) if message.role == "user" and i > first)]
        history_budget = budget if history_budget is None else min(budget, history_budget)
        needed = 0
        for start in starts:
            kept = [*messages[:first], *messages[start:]]
            prompt = self.render(kept, add_generation_prompt=True).input_ids
            if len(prompt) <= (budget if start == starts[-1] else history_budget):
                return Fitted(kept, len(messages) - len(kept), prompt)
            needed = len(prompt)
        raise ContextOverflow(needed, budget)

    @abstractmethod
    def _render_message(self, message: Message) -> "Iterator[_Segment]":
        """Render one message."""

    @abstractmethod
    def _start(self, system: Message | None) -> "_Segment":
        """Render the start of a conversation."""

    @abstractmethod
    def _generation_prompt(self) -> "_Segment":
        """Render the prefix of an answer."""

    def _segments(self, messages: Sequence[Message], add_generation_prompt: bool) -> "Iterator[_Segment]":
        system = messages[0] if messages and messages[0].role == "system" else None
        yield self._start(system)
        if not self.has_tools and any(message.uses_tools for message in messages):
            raise TemplateError(f"The {self.name} template cannot express tools; a model trained with chatml can.")
        for message in messages[1:] if system else messages:
            if message.role == "system":
                raise TemplateError("A system message can only stand first in a conversation.")
            yield from self._render_message(message)
        if add_generation_prompt:
            yield self._generation_prompt()

    def _text(self, text: str) -> "_Segment":
        return _Segment(self.tokenizer.encode(text), supervised=False)


@dataclass(frozen=True, slots=True)
class _Segment:
    ids: list[int]
    supervised: bool


class AlpacaTemplate(ChatTemplate):
    """The format of Alpaca and of *Build a Large Language Model (From Scratch)*, in plain text.

    Rendering puts a backslash before text that looks like one of the template's headings; parsing removes it.
    """

    name = "alpaca"
    preamble = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    instruction, context, response = ("\n\n### Instruction:\n", "\n\n### Input:\n", "\n\n### Response:\n")
    marked_jinja = (
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}" + preamble + "{% endif %}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}{{ '\n\n### Instruction:\n' + message.content }}"
        "{% if message.context %}{{ '\n\n### Input:\n' + message.context }}{% endif %}"
        "{% elif message.role == 'assistant' %}{{ '\n\n### Response:\n' }}"
        "{% generation %}{{ message.content + eos_token }}{% endgeneration %}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}"
    )
    jinja = marked_jinja.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    former_jinja = (jinja.replace("{{ '\n\n### Response:\n' }}{{ message", "{{ '\n\n### Response:\n' + message"),)

    _heading = re.compile(r"^(\\*)(?=### (?:Instruction|Input|Response):)", re.MULTILINE)
    _escaped_heading = re.compile(r"^\\(\\*)(?=### (?:Instruction|Input|Response):)", re.MULTILINE)

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.end_id = tokenizer.eot_id

    def parse(self, input_ids: Sequence[int]) -> list[Message]:
        messages: list[Message] = []
        ends = [i for i, token in enumerate(input_ids) if token == self.end_id]
        for previous, end in pairwise([-1, *ends, len(input_ids)]):
            text = self.tokenizer.decode(input_ids[previous + 1 : end])
            prompt, heading, answer = text.partition(self.response)
            prefix, *users = prompt.split(self.instruction)
            if previous == -1:
                if prefix != self.preamble:
                    messages.append(Message("system", self._unescape(prefix)))
            elif prefix:
                raise TemplateError(f"These tokens are not an alpaca conversation: after an answer stands {prefix!r}.")
            for user in users:
                content, separator, escaped = user.partition(self.context)
                context = self._unescape(escaped) if separator else None
                messages.append(Message("user", self._unescape(content), context))
            if heading and (answer or end < len(input_ids)):
                messages.append(Message("assistant", answer))
        return messages

    def _start(self, system: Message | None) -> _Segment:
        return self._text(self.preamble if system is None else self._escape(system.content))

    def _render_message(self, message: Message) -> Iterator[_Segment]:
        if message.role == "assistant":
            yield self._generation_prompt()
            yield _Segment([*self.tokenizer.encode(message.content), self.end_id], supervised=True)
            return
        yield self._text(self.instruction + self._escape(message.content))
        if message.context is not None:
            yield self._text(self.context + self._escape(message.context))

    def _generation_prompt(self) -> _Segment:
        return self._text(self.response)

    def _escape(self, text: str) -> str:
        return self._heading.sub(r"\\\1", text)

    def _unescape(self, text: str) -> str:
        return self._escaped_heading.sub(r"\1", text)


class ChatMLTemplate(ChatTemplate):
    """Each message between two special tokens, which no text encodes to; a context is a separate message."""

    name = "chatml"
    special_tokens = ("<|im_start|>", "<|im_end|>")
    has_tools = True
    marked_jinja = (
        "{% if tools %}{{ '<|im_start|>system\n' }}"
        "{% if messages[0].role == 'system' and messages[0].content %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{{ " + repr(TOOLS_START) + " }}"
        "{% for tool in tools %}{{ (tool.function or tool) | tojson }}{{ '\n' }}{% endfor %}"
        "{{ " + repr(TOOLS_END + "<|im_end|>\n") + " }}{% endif %}"
        "{% for message in messages %}"
        "{% if message.context %}{{ '<|im_start|>context\n' + message.context + '<|im_end|>\n' }}{% endif %}"
        "{% if message.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}{% generation %}"
        "{% if message.content %}{{ message.content }}{% if message.tool_calls %}{{ '\n' }}{% endif %}{% endif %}"
        "{% for call in message.tool_calls or [] %}{% set call = call.function or call %}"
        '{{ \'<tool_call>\n{"name": "\' + call.name + \'", "arguments": \' }}'
        "{% if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | tojson }}{% endif %}"
        "{{ '}\n</tool_call>' }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
        "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
        "{% elif message.role == 'tool' %}"
        "{{ '<|im_start|>tool\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}"
        "{% elif not (tools and loop.first and message.role == 'system') %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    jinja = marked_jinja.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    former_jinja = (
        "{% for message in messages %}"
        "{% if message.context %}{{ '<|im_start|>context\n' + message.context + '<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    )

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.start_id, self.end_id = (tokenizer.special_tokens[token] for token in self.special_tokens)

    def parse(self, input_ids: Sequence[int]) -> list[Message]:
        messages: list[Message] = []
        context: str | None = None
        starts = [i for i, token in enumerate(input_ids) if token == self.start_id]
        if input_ids and starts[:1] != [0]:
            raise TemplateError("These tokens are not a chatml conversation: they do not begin with <|im_start|>.")
        for start, end in pairwise([*starts, len(input_ids)]):
            block = list(input_ids[start + 1 : end])
            finished = self.end_id in block
            text = self.tokenizer.decode(block[: block.index(self.end_id)] if finished else block)
            role, _, content = text.partition("\n")
            if role == "context":
                context = content
            elif role in ROLES and (finished or content):
                messages.append(_read_block(role, content, context))
                context = None
            elif role not in ROLES:
                raise TemplateError(f"These tokens are not a chatml conversation: there is a message by {role!r}.")
        return messages

    def _start(self, system: Message | None) -> _Segment:
        return (
            _Segment([], supervised=False)
            if system is None
            else self._block("system", with_tools(system.content, system.tools))
        )

    def _render_message(self, message: Message) -> Iterator[_Segment]:
        if message.context is not None:
            yield self._block("context", message.context)
        if message.role == "assistant":
            yield self._generation_prompt()
            text = with_calls(message.content, message.tool_calls)
            yield _Segment([*self.tokenizer.encode(text), self.end_id], supervised=True)
            yield self._text("\n")
        elif message.role == "tool":
            yield self._block("tool", RESULT_START + message.content + RESULT_END)
        else:
            yield self._block(message.role, message.content)

    def _generation_prompt(self) -> _Segment:
        return _Segment([self.start_id, *self.tokenizer.encode("assistant\n")], supervised=False)

    def _block(self, role: str, content: str) -> _Segment:
        encode = self.tokenizer.encode
        ids = [self.start_id, *encode(role + "\n"), *encode(content), self.end_id, *encode("\n")]
        return _Segment(ids, supervised=False)


def _read_block(role: Role, text: str, context: str | None) -> Message:
    """A message of a chatml block; `context` is that of the block before it."""
    if role == "system":
        content, tools = split_tools(text)
        return Message(role, content, tools=tools)
    if role == "assistant":
        content, calls = split_calls(text)
        return Message(role, content, tool_calls=calls)
    if role == "tool":
        return Message(role, text.removeprefix(RESULT_START).removesuffix(RESULT_END))
    return Message(role, text, context)


TEMPLATES: dict[str, type[ChatTemplate]] = {template.name: template for template in (AlpacaTemplate, ChatMLTemplate)}
