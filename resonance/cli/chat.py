"""`resonance chat`: a conversation with a checkpoint in the terminal, or through a pipe."""

import json
import signal
import sys
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from resonance.checkpoint import Checkpoint
from resonance.cli.checkpoints import model_name
from resonance.conversation import SEARCH_MODES, Conversation, Turn
from resonance.engine import Engine, SamplingParams
from resonance.errors import ResonanceError
from resonance.hydra_config import compose, nearest
from resonance.retrieval.citations import align
from resonance.retrieval.factory import build_retriever
from resonance.retrieval.retriever import BlockingRetriever
from resonance.retrieval.types import Kind, Retrieved

_SEARCHED: dict[str, Kind] = {"web": "web", "documents": "document"}


class TerminalError(ResonanceError):
    """An unknown command, or one that cannot be carried out."""


class Leave(Exception):
    """The user quits the chat."""


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
    retriever = make_retriever(config)
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
        checkpoint.window,
        system=None if config.system is None else str(config.system),
        retriever=retriever,
    )
    interactive = config.prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    chat = Chat(conversation, Screen(interactive))
    if config.prompt is not None:
        chat.ask(str(config.prompt))
        return
    for note in engine.stats().notes:
        chat.screen.notice(note)
    if interactive:
        model = f"{model_name(checkpoint.config)} in {engine.stats().precision}"
        chat.screen.notice(f"{checkpoint.name}: {model}. /help lists the commands, Ctrl-C stops an answer.")
        if retriever is not None:
            chat.screen.notice(f"Search in {retriever.provider} is {conversation.search_mode}.")
        chat.run(_typed_lines(chat.screen))
    else:
        chat.run(sys.stdin)


def make_retriever(config: DictConfig) -> BlockingRetriever | None:
    """The retriever that the configuration describes; None for `search=off`. Raises SearchError."""
    values = cast(dict[str, Any], OmegaConf.to_container(config.search, resolve=True))
    retriever = build_retriever(**values)
    return None if retriever is None else BlockingRetriever(retriever)


class Screen:
    """Prints answers and notices. In a pipe notices go to stderr, so that stdout has answers only."""

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive
        self._answers = Console(highlight=False)
        self._notices = self._answers if interactive else Console(stderr=True, highlight=False)

    def piece(self, text: str) -> None:
        """Print a piece of an answer, unbuffered."""
        self._answers.out(printable(text), end="")
        self._answers.file.flush()

    def retrieved(self, retrieved: Retrieved) -> None:
        """Print why a search has no sources, or old ones."""
        if retrieved.note:
            self.notice(retrieved.note)

    def end(self, turn: Turn, context_length: int) -> None:
        """Print an answer's sources and statistics."""
        self._answers.out("")
        self._answers.file.flush()
        if turn.retrieved is not None and turn.retrieved.sources:
            self._sources(turn.retrieved, turn.text)
        if turn.dropped:
            plural = "s" if turn.dropped > 1 else ""
            self.notice(
                f"The {turn.dropped} oldest message{plural} no longer fit into the context of "
                f"{context_length} tokens and were left out."
            )
        if self.interactive:
            stopped = {"cancelled": " · stopped", "length": " · cut at the limit"}.get(turn.finish_reason, "")
            speed = f" · {turn.tokens / turn.seconds:.1f} tokens/s" if turn.tokens else ""
            self.notice(f"{turn.tokens} tokens{speed}{stopped}")

    def _sources(self, retrieved: Retrieved, answer: str) -> None:
        """Print the numbered sources, and mark those that support the answer."""
        supporting = align(answer, retrieved.sources).supports()
        self.notice(f"Found in {retrieved.provider} for {retrieved.query!r}:")
        for source in retrieved.sources:
            holds = " · holds what is said" if source.id in supporting else ""
            self.notice(printable(f"[{source.id}] {source.title} · {source.url}{holds}"))

    def notice(self, text: str) -> None:
        """Print a line that is not part of the conversation."""
        self._notices.print(text, style="dim", markup=False, soft_wrap=True)


class Chat:
    """A conversation in the terminal, with commands."""

    def __init__(self, conversation: Conversation, screen: Screen) -> None:
        self.conversation, self.screen = conversation, screen
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/reset": (self._reset, "forget the conversation and start anew"),
            "/retry": (self._retry, "answer the last message once more"),
            "/system": (self._set_system, "TEXT: set the system prompt; without TEXT: take it away"),
            "/search": (
                self._set_search,
                "on|off|auto [web|documents]: search for every message, for none, or where one asks for it",
            ),
            "/save": (self._save, "[FILE]: write the conversation as JSON that `data=json` trains on"),
            "/help": (self._help, "this list"),
            "/quit": (self._quit, "leave (as Ctrl-D does)"),
        }

    def run(self, lines: Iterable[str]) -> None:
        """Answer one message per line until the lines end or a line is /quit.

        In an interactive chat errors are printed and the chat continues; in a pipe they are raised.
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
        """Print the answer to a message as it is generated."""
        self._show(lambda show: self.conversation.ask(text, show, self.screen.retrieved))

    def _show(self, answer: Callable[[Callable[[str], bool]], Turn]) -> None:
        with _interruptible(self.screen.interactive) as stopped:

            def show(text: str) -> bool:
                self.screen.piece(text)
                return not stopped()

            turn = answer(show)
        self.screen.end(turn, self.conversation.window.history_length)

    def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        if name not in self._commands:
            raise TerminalError(f"There is no command {name!r}; {nearest(name, list(self._commands))}")
        self._commands[name][0](argument.strip())

    def _reset(self, _: str) -> None:
        self.conversation.turns.clear()
        self.screen.notice("The conversation starts anew.")

    def _retry(self, _: str) -> None:
        self._show(lambda show: self.conversation.retry(show, self.screen.retrieved))

    def _set_system(self, text: str) -> None:
        self.conversation.system = text or None
        self.screen.notice(f"System prompt: {text}" if text else "No system prompt.")

    def _set_search(self, text: str) -> None:
        retriever = self.conversation.retriever
        if retriever is None:
            raise TerminalError(
                "This chat has no search; start it with search=documents search.path=FOLDER or search=duckduckgo."
            )
        if text:
            mode, _, source = text.partition(" ")
            if mode not in SEARCH_MODES:
                raise TerminalError(f"/search takes {', '.join(SEARCH_MODES)}, not {mode!r}.")
            kind = _SEARCHED.get(source)
            if source and kind not in retriever.kinds:
                there = ", ".join(name for name, each in _SEARCHED.items() if each in retriever.kinds)
                raise TerminalError(f"This chat does not search {source!r}; it searches {there}.")
            self.conversation.search_mode = mode
            self.conversation.search_kinds = None if kind is None else (kind,)
        kinds = self.conversation.search_kinds
        where = retriever.provider if kinds is None else next(n for n, each in _SEARCHED.items() if each in kinds)
        self.screen.notice(f"Search in {where} is {self.conversation.search_mode}.")

    def _save(self, file: str) -> None:
        path = Path(file or f"chat-{datetime.now():%Y%m%d-%H%M%S}.json").expanduser()
        rows = [{"role": m.role, "content": m.content} for m in self.conversation.messages]
        try:
            path.write_text(json.dumps([{"messages": rows}], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise TerminalError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
        self.screen.notice(f"Saved {len(rows)} messages to {path}.")

    def _help(self, _: str) -> None:
        for name, (_call, summary) in self._commands.items():
            self.screen.notice(f"{name:8} {summary}")

    def _quit(self, _: str) -> None:
        raise Leave


def printable(text: str) -> str:
    """A model's text without control characters, which a terminal would interpret; newlines and tabs stay."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cc")


@contextmanager
def _interruptible(active: bool) -> Generator[Callable[[], bool]]:
    """While active, the yielded function returns whether Ctrl-C was pressed; a second one raises KeyboardInterrupt."""
    pressed = False

    def on_sigint(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if not active:
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, on_sigint)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _typed_lines(screen: Screen) -> Iterator[str]:
    """Read lines at a prompt, with editing and history if readline is installed.

    Ctrl-D ends the input. Ctrl-C clears the line; a second one in a row quits.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]

    interrupted = False
    while True:
        try:
            yield input("> ")
            interrupted = False
        except EOFError:
            screen.notice("")
            return
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            screen.notice("\nCtrl-C again or /quit leaves.")
