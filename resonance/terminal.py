"""`resonance chat`: a conversation with a checkpoint in the terminal, or through a pipe.

It knows the terminal and how a dialogue is kept; prompts are the template's business, tokens the engine's.
"""

import json
import signal
import sys
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from resonance.chat import ChatTemplate, Message
from resonance.checkpoint import Checkpoint
from resonance.config import compose, nearest
from resonance.engine import Engine, SamplingParams
from resonance.errors import ResonanceError
from resonance.listing import model_name


class TerminalError(ResonanceError):
    """A command that the chat does not know or cannot carry out."""


class Leave(Exception):
    """The user has said goodbye."""


def main(overrides: list[str]) -> None:
    """Chat with a checkpoint until the input ends; see `configs/chat.yaml` for the keys."""
    config = compose("chat", overrides)
    sampling = SamplingParams(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
        repetition_penalty=config.repetition_penalty,
        seed=config.seed,
    )
    checkpoint = Checkpoint.find(str(config.checkpoint))
    engine = Engine.from_checkpoint(
        checkpoint,
        dtype=config.dtype,
        quantize=config.quantize,
        max_batch_size=1,
        prompt_lookup=config.prompt_lookup,
        draft=None if config.draft is None else str(config.draft),
    )
    conversation = Conversation(
        engine,
        checkpoint.template(),
        sampling,
        checkpoint.config.context_length,
        system=None if config.system is None else str(config.system),
    )
    interactive = config.prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    chat = Chat(conversation, Screen(interactive))
    if config.prompt is not None:
        chat.ask(str(config.prompt))
    elif interactive:
        model = f"{model_name(checkpoint.config)} in {engine.stats().precision}"
        chat.screen.notice(f"{checkpoint.name}: {model}. /help lists the commands, Ctrl-C stops an answer.")
        chat.run(_typed_lines(chat.screen))
    else:
        chat.run(sys.stdin)


@dataclass(frozen=True, slots=True)
class Turn:
    """How an answer was made: tokens, seconds, and how many older messages the model no longer saw."""

    tokens: int
    seconds: float
    dropped: int
    finish_reason: str


class Conversation:
    """A dialogue with a model: what was said, and what of it still fits into the context window."""

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        sampling: SamplingParams,
        context_length: int,
        system: str | None = None,
    ) -> None:
        self._engine, self._template, self._sampling = engine, template, sampling
        self.context_length = context_length
        self._answers = 0
        self.system = system
        self.turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """Everything said so far, the system prompt first."""
        return ([Message("system", self.system)] if self.system else []) + self.turns

    def ask(self, text: str, show: Callable[[str], bool]) -> Turn:
        """Answer a message; `show` gets each piece of text and says whether to go on.

        A stopped answer is kept as far as it goes. Raises ContextOverflow, and forgets the message, when it
        does not fit into the context window.
        """
        before = list(self.turns)
        self.turns.append(Message("user", text))
        try:
            return self._answer(show)
        except ResonanceError:
            self.turns = before
            raise

    def retry(self, show: Callable[[str], bool]) -> Turn:
        """Answer the newest message once more, in place of its last answer."""
        question = next((i for i in reversed(range(len(self.turns))) if self.turns[i].role == "user"), None)
        if question is None:
            raise TerminalError("There is no message to answer again; write one first.")
        text = self.turns[question].content
        del self.turns[question:]
        return self.ask(text, show)

    def _answer(self, show: Callable[[str], bool]) -> Turn:
        reserve = min(self._sampling.max_new_tokens, self.context_length // 2)
        fitted = self._template.fit(self.messages, budget=self.context_length - reserve)
        room = self.context_length - len(fitted.prompt_ids)
        seed = self._sampling.seed
        params = replace(
            self._sampling,
            max_new_tokens=min(self._sampling.max_new_tokens, room),
            seed=None if seed is None else seed + self._answers,  # an answer of its own for each turn
        )
        self._answers += 1
        text, tokens, reason = "", 0, "cancelled"
        started = time.perf_counter()
        for piece in self._engine.stream(fitted.prompt_ids, params):
            tokens += piece.finish_reason != "stop"
            text += piece.text
            reason = piece.finish_reason or reason
            if not show(piece.text):
                break  # the engine cancels what nobody listens to
        if text.strip():
            self.turns.append(Message("assistant", text.strip()))
        return Turn(tokens, time.perf_counter() - started, fitted.dropped, reason)


class Screen:
    """Where answers and notices go: notices of a piped chat go to stderr, so that stdout has answers only."""

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive
        self._answers = Console(highlight=False)
        self._notices = self._answers if interactive else Console(stderr=True, highlight=False)

    def piece(self, text: str) -> None:
        """A part of an answer, at once."""
        self._answers.out(printable(text), end="")
        self._answers.file.flush()

    def end(self, turn: Turn, context_length: int) -> None:
        """What an answer ends with."""
        self._answers.out("")
        self._answers.file.flush()
        if turn.dropped:
            plural = "s" if turn.dropped > 1 else ""
            self.notice(
                f"The {turn.dropped} oldest message{plural} no longer fit into the context of "
                f"{context_length} tokens and were left out."
            )
        if self.interactive:
            stopped = {"cancelled": " · stopped", "length": " · cut at the limit"}.get(turn.finish_reason, "")
            self.notice(f"{turn.tokens} tokens · {turn.tokens / turn.seconds:.1f} tokens/s{stopped}")

    def notice(self, text: str) -> None:
        """A line about the chat that is not part of it."""
        self._notices.print(text, style="dim", markup=False, soft_wrap=True)


class Chat:
    """A conversation on a screen, with commands."""

    def __init__(self, conversation: Conversation, screen: Screen) -> None:
        self.conversation, self.screen = conversation, screen
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/reset": (self._reset, "forget the conversation and start anew"),
            "/retry": (self._retry, "answer the last message once more"),
            "/system": (self._set_system, "TEXT: set the system prompt; without TEXT: take it away"),
            "/save": (self._save, "[FILE]: write the conversation as JSON that `data=json` trains on"),
            "/help": (self._help, "this list"),
            "/quit": (self._quit, "leave (as Ctrl-D does)"),
        }

    def run(self, lines: Iterable[str]) -> None:
        """Answer a message a line until the lines end or one says /quit.

        On an interactive screen a mistake is told and the chat goes on; in a pipe it is raised.
        """
        for line in lines:
            text = line.strip()
            try:
                if text.startswith("/"):
                    self._command(text)
                elif text:
                    self.ask(text)
            except Leave:
                return
            except ResonanceError as error:
                if not self.screen.interactive:
                    raise
                self.screen.notice(str(error))

    def ask(self, text: str) -> None:
        """Show the answer to a message as it is made."""
        self._show(lambda show: self.conversation.ask(text, show))

    def _show(self, answer: Callable[[Callable[[str], bool]], Turn]) -> None:
        with _interruptible(self.screen.interactive) as stopped:

            def show(text: str) -> bool:
                self.screen.piece(text)
                return not stopped()

            turn = answer(show)
        self.screen.end(turn, self.conversation.context_length)

    def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        if name not in self._commands:
            raise TerminalError(f"There is no command {name!r}; {nearest(name, list(self._commands))}")
        self._commands[name][0](argument.strip())

    def _reset(self, _: str) -> None:
        self.conversation.turns.clear()
        self.screen.notice("The conversation starts anew.")

    def _retry(self, _: str) -> None:
        self._show(self.conversation.retry)

    def _set_system(self, text: str) -> None:
        self.conversation.system = text or None
        self.screen.notice(f"System prompt: {text}" if text else "No system prompt.")

    def _save(self, file: str) -> None:
        path = Path(file or f"chat-{datetime.now():%Y%m%d-%H%M%S}.json").expanduser()
        rows = [{"role": m.role, "content": m.content} for m in self.conversation.messages]
        try:
            path.write_text(json.dumps([{"messages": rows}], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise TerminalError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
        self.screen.notice(f"Saved {len(rows)} messages to {path}.")

    def _help(self, _: str) -> None:
        for name, (_call, what) in self._commands.items():
            self.screen.notice(f"{name:8} {what}")

    def _quit(self, _: str) -> None:
        raise Leave


def printable(text: str) -> str:
    """A model's text without control characters, which a terminal would obey; new lines and tabs stay."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cc")


@contextmanager
def _interruptible(active: bool) -> Generator[Callable[[], bool]]:
    """While active, the first Ctrl-C makes the given function true; a second one raises KeyboardInterrupt."""
    pressed = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if not active:
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _typed_lines(screen: Screen) -> Iterator[str]:
    """Lines typed at a prompt, with editing and history where the machine has readline.

    Ctrl-D ends them. Ctrl-C clears the line; a second one in a row leaves.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]

    asked_to_leave = False
    while True:
        try:
            yield input("> ")
            asked_to_leave = False
        except EOFError:
            screen.notice("")
            return
        except KeyboardInterrupt:
            if asked_to_leave:
                raise
            asked_to_leave = True
            screen.notice("\nCtrl-C again or /quit leaves.")
