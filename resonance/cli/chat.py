"""`resonance chat`: a conversation with a checkpoint in the terminal, or through a pipe.

It knows the terminal and its commands; how a conversation goes is `resonance.conversation`'s business.
"""

import json
import signal
import sys
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig
from rich.console import Console

from resonance.checkpoint import Checkpoint
from resonance.cli.checkpoints import model_name
from resonance.conversation import MODES, Conversation, Found, Search, Turn
from resonance.engine import Engine, SamplingParams
from resonance.errors import ResonanceError
from resonance.hydra_config import compose, make, nearest


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
    search = _search(config)
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
        search=search,
    )
    interactive = config.prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    chat = Chat(conversation, Screen(interactive))
    if config.prompt is not None:
        chat.ask(str(config.prompt))
    elif interactive:
        model = f"{model_name(checkpoint.config)} in {engine.stats().precision}"
        chat.screen.notice(f"{checkpoint.name}: {model}. /help lists the commands, Ctrl-C stops an answer.")
        if search is not None:
            chat.screen.notice(f"Search in {search.provider} is {conversation.searching}.")
        chat.run(_typed_lines(chat.screen))
    else:
        chat.run(sys.stdin)


def _search(config: DictConfig) -> Search | None:
    """The search that the configuration names; the room that has it is above the library, and made by name."""
    return None if config.search.provider == "off" else make(config.searching, _convert_="all")


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

    def found(self, found: Found) -> None:
        """What there is to say about a search before the answer: why there are no sources, or old ones."""
        if found.retrieved.note:
            self.notice(found.retrieved.note)

    def end(self, turn: Turn, context_length: int) -> None:
        """What an answer ends with: its sources, and how it was made."""
        self._answers.out("")
        self._answers.file.flush()
        if turn.found is not None and turn.found.retrieved.sources:
            self._sources(turn.found, turn.text)
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

    def _sources(self, found: Found, answer: str) -> None:
        """The numbered sources, and which of them hold what the answer says."""
        retrieved, supporting = found.retrieved, found.supporting(answer)
        self.notice(f"Found in {retrieved.provider} for {retrieved.query!r}:")
        for source in retrieved.sources:
            holds = " · holds what is said" if source.id in supporting else ""
            self.notice(printable(f"[{source.id}] {source.title} · {source.url}{holds}"))

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
            "/search": (self._set_search, "on|off|auto: search for every message, for none, or where one asks for it"),
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
        self._show(lambda show: self.conversation.ask(text, show, self.screen.found))

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
        self._show(lambda show: self.conversation.retry(show, self.screen.found))

    def _set_system(self, text: str) -> None:
        self.conversation.system = text or None
        self.screen.notice(f"System prompt: {text}" if text else "No system prompt.")

    def _set_search(self, text: str) -> None:
        search = self.conversation.search
        if search is None:
            raise TerminalError(
                "This chat has no search; start it with search=documents search.path=FOLDER or search=duckduckgo."
            )
        if text:
            if text not in MODES:
                raise TerminalError(f"/search takes {', '.join(MODES)}, not {text!r}.")
            self.conversation.searching = text
        self.screen.notice(f"Search in {search.provider} is {self.conversation.searching}.")

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
