"""One prompt object for training, evaluation and serving: messages -> token ids and a loss mask, and back.

It knows how a conversation is written down and how much of it fits into a window, and nothing of models.
Every piece of a prompt is encoded by itself, so that the tokens of a prefix never depend on what follows: what the
model sees at inference is, token for token, what it saw in training.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from resonance.errors import ResonanceError
from resonance.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


class TemplateError(ResonanceError):
    """Messages that no template can write down, an unknown template, or ids that are not a conversation."""


class ContextOverflow(TemplateError):
    """The system prompt and the newest turn alone are longer than the room there is."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(
            f"The system prompt and the newest message need {needed} tokens and there is room for {budget}; "
            "shorten the message or ask for fewer new tokens."
        )
        self.needed, self.budget = needed, budget


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `context` is what a user's message should be answered from."""

    role: Role
    content: str
    context: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise TemplateError(f"A message's role is one of {', '.join(ROLES)}, not {self.role!r}.")
        if self.context is not None and self.role != "user":
            raise TemplateError(f"Only a user's message can have a context, not the {self.role}'s.")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens; `loss_mask` is true on the assistant's words and the token that ends them."""

    input_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What of a conversation fits: the messages kept, how many were dropped, the prompt's tokens."""

    messages: list[Message]
    dropped: int
    prompt_ids: list[int]


@dataclass(frozen=True, slots=True)
class Window:
    """How many tokens a conversation with a model may have.

    `context_length` is what prompt and answer have in all. `trained_length` is the longest conversation that the model
    has learned from: further back it knows no positions, so older turns are kept up to there only. None: as far as
    the context goes.
    """

    context_length: int
    trained_length: int | None = None

    @property
    def history_length(self) -> int:
        """How many tokens prompt and answer have where the prompt holds more than the newest turn."""
        return min(self.context_length, self.trained_length or self.context_length)

    def prompt_budget(self, max_new_tokens: int) -> int:
        """How many tokens a prompt may have: an answer keeps what it asks for, but at most a quarter of the window."""
        return _less_the_answer(self.context_length, max_new_tokens)

    def history_budget(self, max_new_tokens: int) -> int:
        """How many of them it may have because of older turns."""
        return _less_the_answer(self.history_length, max_new_tokens)


def _less_the_answer(length: int, max_new_tokens: int) -> int:
    return length - max(1, min(max_new_tokens, length // 4))


class ChatTemplate(ABC):
    """How messages are written down for a model; kept in each checkpoint by its name.

    `special_tokens` are those the template adds to GPT-2's vocabulary. `jinja` says the same as a Hugging Face chat
    template, for other people's programs.
    """

    name: ClassVar[str]
    special_tokens: ClassVar[tuple[str, ...]] = ()
    jinja: ClassVar[str]
    end_id: int  # the token that ends an assistant's turn

    def __init__(self, tokenizer: Tokenizer) -> None:
        missing = [token for token in self.special_tokens if token not in tokenizer.special_tokens]
        if missing:
            raise TemplateError(f"The {self.name} template needs a tokenizer with the token(s) {', '.join(missing)}.")
        self.tokenizer = tokenizer

    @staticmethod
    def named(name: str, tokenizer: Tokenizer | None = None) -> "ChatTemplate":
        """Make the template of that name, with a tokenizer of its own unless one is given."""
        template = _template_class(name)
        return template(tokenizer or Tokenizer.gpt2(template.special_tokens))

    @staticmethod
    def special_tokens_of(name: str) -> tuple[str, ...]:
        """The tokens which the template of that name adds to GPT-2's vocabulary."""
        return _template_class(name).special_tokens

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Rendered:
        """Write messages down as token ids and a loss mask of the same length.

        With `add_generation_prompt` the ids end where an answer begins. Raises TemplateError when a system message
        stands anywhere but first.
        """
        ids: list[int] = []
        mask: list[bool] = []
        for piece in self._pieces(messages, add_generation_prompt):
            ids += piece.ids
            mask += [piece.supervised] * len(piece.ids)
        return Rendered(ids, mask)

    @abstractmethod
    def parse(self, input_ids: Sequence[int]) -> list[Message]:
        """Read a conversation back from its tokens; an unfinished answer counts as far as it goes.

        Raises TemplateError where the ids are not a conversation in this template.
        """

    def fit(self, messages: Sequence[Message], *, budget: int, history_budget: int | None = None) -> Fitted:
        """Keep the newest turns whose prompt has at most `budget` tokens.

        Whole turns go, oldest first; the system prompt and the newest user message (with all that follows it) stay.
        `history_budget` is how long a prompt may be because of older turns: without them it may still have `budget`
        tokens. Raises ContextOverflow when these alone do not fit.
        """
        opening = 1 if messages and messages[0].role == "system" else 0
        starts = [opening, *(i for i, message in enumerate(messages) if message.role == "user" and i > opening)]
        room = budget if history_budget is None else min(budget, history_budget)
        needed = 0
        for start in starts:
            kept = [*messages[:opening], *messages[start:]]
            prompt = self.render(kept, add_generation_prompt=True).input_ids
            if len(prompt) <= (budget if start == starts[-1] else room):
                return Fitted(kept, len(messages) - len(kept), prompt)
            needed = len(prompt)
        raise ContextOverflow(needed, budget)

    @abstractmethod
    def _write(self, message: Message) -> "Iterator[_Piece]":
        """The pieces of one message."""

    @abstractmethod
    def _opening(self, system: Message | None) -> "_Piece":
        """What a conversation begins with."""

    @abstractmethod
    def _generation_prompt(self) -> "_Piece":
        """What stands before an answer."""

    def _pieces(self, messages: Sequence[Message], add_generation_prompt: bool) -> "Iterator[_Piece]":
        system = messages[0] if messages and messages[0].role == "system" else None
        yield self._opening(system)
        for message in messages[1:] if system else messages:
            if message.role == "system":
                raise TemplateError("A system message can only stand first in a conversation.")
            yield from self._write(message)
        if add_generation_prompt:
            yield self._generation_prompt()

    def _piece(self, text: str) -> "_Piece":
        return _Piece(self.tokenizer.encode(text), supervised=False)


@dataclass(frozen=True, slots=True)
class _Piece:
    ids: list[int]
    supervised: bool


class AlpacaTemplate(ChatTemplate):
    """The wording of Alpaca and of *Build a Large Language Model (From Scratch)*, in plain text.

    Text that looks like one of the template's headings gets a backslash before it, and loses it when read back.
    """

    name = "alpaca"
    preamble = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    instruction, context, response = ("\n\n### Instruction:\n", "\n\n### Input:\n", "\n\n### Response:\n")
    jinja = (
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}" + preamble + "{% endif %}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}{{ '\n\n### Instruction:\n' + message.content }}"
        "{% if message.context %}{{ '\n\n### Input:\n' + message.context }}{% endif %}"
        "{% elif message.role == 'assistant' %}{{ '\n\n### Response:\n' + message.content + eos_token }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}"
    )

    _heading = re.compile(r"^(\\*)(?=### (?:Instruction|Input|Response):)", re.MULTILINE)
    _escaped_heading = re.compile(r"^\\(\\*)(?=### (?:Instruction|Input|Response):)", re.MULTILINE)

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.end_id = tokenizer.eot_id

    def parse(self, input_ids: Sequence[int]) -> list[Message]:
        messages: list[Message] = []
        ends = [i for i, token in enumerate(input_ids) if token == self.end_id]
        for begin, end in pairwise([-1, *ends, len(input_ids)]):
            text = self.tokenizer.decode(input_ids[begin + 1 : end])
            prompt, heading, answer = text.partition(self.response)
            opening, *users = prompt.split(self.instruction)
            if begin == -1:
                if opening != self.preamble:
                    messages.append(Message("system", self._unescape(opening)))
            elif opening:
                raise TemplateError(f"These tokens are not an alpaca conversation: after an answer stands {opening!r}.")
            for user in users:
                content, given, context = user.partition(self.context)
                messages.append(Message("user", self._unescape(content), self._unescape(context) if given else None))
            if heading and (answer or end < len(input_ids)):
                messages.append(Message("assistant", answer))
        return messages

    def _opening(self, system: Message | None) -> _Piece:
        return self._piece(self.preamble if system is None else self._escape(system.content))

    def _write(self, message: Message) -> Iterator[_Piece]:
        if message.role == "assistant":
            yield self._generation_prompt()
            yield _Piece([*self.tokenizer.encode(message.content), self.end_id], supervised=True)
            return
        yield self._piece(self.instruction + self._escape(message.content))
        if message.context is not None:
            yield self._piece(self.context + self._escape(message.context))

    def _generation_prompt(self) -> _Piece:
        return self._piece(self.response)

    def _escape(self, text: str) -> str:
        return self._heading.sub(r"\\\1", text)

    def _unescape(self, text: str) -> str:
        return self._escaped_heading.sub(r"\1", text)


class ChatMLTemplate(ChatTemplate):
    """Each message between two tokens of its own, which no text can produce; a context is a message of its own."""

    name = "chatml"
    special_tokens = ("<|im_start|>", "<|im_end|>")
    jinja = (
        "{% for message in messages %}"
        "{% if message.context %}{{ '<|im_start|>context\n' + message.context + '<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
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
        for start, after in pairwise([*starts, len(input_ids)]):
            block = list(input_ids[start + 1 : after])
            finished = self.end_id in block
            words = block[: block.index(self.end_id)] if finished else block
            role, _, content = self.tokenizer.decode(words).partition("\n")
            if role == "context":
                context = content
            elif role in ROLES and (finished or content):
                messages.append(Message(role, content, context if role == "user" else None))
                context = None
            elif role not in ROLES:
                raise TemplateError(f"These tokens are not a chatml conversation: there is a message by {role!r}.")
        return messages

    def _opening(self, system: Message | None) -> _Piece:
        return _Piece([], supervised=False) if system is None else self._block("system", system.content)

    def _write(self, message: Message) -> Iterator[_Piece]:
        if message.context is not None:
            yield self._block("context", message.context)
        if message.role == "assistant":
            yield self._generation_prompt()
            yield _Piece([*self.tokenizer.encode(message.content), self.end_id], supervised=True)
            yield self._piece("\n")
        else:
            yield self._block(message.role, message.content)

    def _generation_prompt(self) -> _Piece:
        return _Piece([self.start_id, *self.tokenizer.encode("assistant\n")], supervised=False)

    def _block(self, role: str, content: str) -> _Piece:
        encode = self.tokenizer.encode
        ids = [self.start_id, *encode(role + "\n"), *encode(content), self.end_id, *encode("\n")]
        return _Piece(ids, supervised=False)


TEMPLATES: dict[str, type[ChatTemplate]] = {template.name: template for template in (AlpacaTemplate, ChatMLTemplate)}


def _template_class(name: str) -> type[ChatTemplate]:
    if name not in TEMPLATES:
        raise TemplateError(f"There is no chat template {name!r}; there are {', '.join(TEMPLATES)}.")
    return TEMPLATES[name]
