"""`resonance chat`: in a pipe, on a terminal, and the dialogue behind both."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from resonance.chat import ContextOverflow
from resonance.checkpoint import Checkpoint, Metadata
from resonance.dialogue import Conversation, DialogueError
from resonance.engine import Engine, EngineError, SamplingParams
from resonance.model import GPT2, GPT2Config
from resonance.terminal import Chat, Screen, TerminalError, main, printable
from resonance.tokenizer import Tokenizer

PROJECT = Path(__file__).resolve().parents[2]
TINY = GPT2Config(context_length=128, n_layer=1, n_head=2, n_embd=16, dropout=0.0)


def save(folder: Path, config: GPT2Config) -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint.save(folder, GPT2(config), Tokenizer.gpt2(), Metadata())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("runs") / "tiny", TINY)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One whose longest answer takes many seconds: time enough to stop it."""
    return save(
        tmp_path_factory.mktemp("runs") / "slow",
        GPT2Config(context_length=8192, n_layer=4, n_head=4, n_embd=256, dropout=0.0),
    )


@pytest.fixture
def conversation(tiny: Checkpoint) -> Conversation:
    sampling = SamplingParams(max_new_tokens=6, temperature=1.0, seed=1)
    return Conversation(Engine.from_checkpoint(tiny, dtype="fp32"), tiny.template(), sampling, 128)


def collect(into: list[str]) -> Callable[[str], bool]:
    def show(text: str) -> bool:
        into.append(text)
        return True

    return show


def test_an_answer_is_shown_piece_by_piece_and_remembered(conversation: Conversation) -> None:
    pieces: list[str] = []
    turn = conversation.ask("Hello!", collect(pieces))
    assert len(pieces) > 1
    assert [message.role for message in conversation.turns] == ["user", "assistant"]
    assert conversation.turns[1].content == "".join(pieces).strip()
    assert (turn.tokens, turn.dropped, turn.finish_reason) == (6, 0, "length")


def test_the_same_seed_gives_the_same_conversation_and_each_turn_its_own_answer(tiny: Checkpoint) -> None:
    def talk() -> list[str]:
        engine = Engine.from_checkpoint(tiny, dtype="fp32")
        chat = Conversation(engine, tiny.template(), SamplingParams(max_new_tokens=6, seed=1), 128)
        for _ in range(2):
            chat.ask("Hello!", lambda _: True)
        chat.retry(lambda _: True)
        return [message.content for message in chat.turns]

    assert talk() == talk()


def test_retry_answers_the_last_message_anew(conversation: Conversation) -> None:
    conversation.ask("Hello!", lambda _: True)
    first = conversation.turns[-1].content
    conversation.retry(lambda _: True)
    assert len(conversation.turns) == 2
    assert conversation.turns[-1].content != first  # another seed, at temperature 1


def test_a_stopped_answer_is_kept_as_far_as_it_goes(conversation: Conversation) -> None:
    pieces: list[str] = []

    def show(text: str) -> bool:
        pieces.append(text)
        return len(pieces) < 3

    turn = conversation.ask("Hello!", show)
    assert turn.finish_reason == "cancelled"
    assert conversation.turns[-1].content == "".join(pieces).strip()
    assert conversation.ask("And now?", lambda _: True).finish_reason == "length"


def test_old_messages_are_dropped_from_the_prompt_and_kept_in_the_conversation(conversation: Conversation) -> None:
    turns = [conversation.ask(f"Question {i}, " + "and so on " * 8, lambda _: True) for i in range(4)]
    assert turns[0].dropped == 0
    assert turns[3].dropped > 0
    assert turns[3].dropped % 2 == 0
    assert len(conversation.turns) == 8


def test_a_message_that_cannot_fit_is_refused_and_forgotten(conversation: Conversation) -> None:
    with pytest.raises(ContextOverflow):
        conversation.ask("word " * 200, lambda _: True)
    assert conversation.turns == []


def test_a_retry_without_a_message_says_what_to_do(conversation: Conversation) -> None:
    with pytest.raises(DialogueError, match="write one first"):
        conversation.retry(lambda _: True)


def test_a_saved_conversation_is_instruction_data(conversation: Conversation, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    Chat(conversation, Screen(interactive=False)).run(["/system Be kind.", "Hello!", f"/save {path}", "/quit", "no"])
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][0]["content"] == "Be kind."


def test_commands_change_the_conversation(conversation: Conversation, tmp_path: Path) -> None:
    chat = Chat(conversation, Screen(interactive=False))
    chat.run(["/system Be kind.", "Hello!"])
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant"]
    chat.run(["/reset"])
    assert [message.role for message in conversation.messages] == ["system"]
    chat.run(["/system"])
    assert conversation.messages == []
    with pytest.raises(TerminalError, match="did you mean '/retry'"):
        chat.run(["/retri"])
    with pytest.raises(TerminalError, match="cannot be written"):
        chat.run([f"/save {tmp_path / 'nowhere' / 'chat.json'}"])


def test_one_question_on_the_command_line_gets_one_answer(tiny: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"checkpoint={tiny.folder}", "prompt=What is 2 + 2?", "temperature=0", "max_new_tokens=5"])
    printed = capsys.readouterr()
    assert printed.out.strip()
    assert printed.out.endswith("\n")
    assert printed.err == ""


@pytest.mark.parametrize("guesses", ["prompt_lookup=true", "draft={}"])
def test_guessing_ahead_changes_no_answer(
    tiny: Checkpoint, capsys: pytest.CaptureFixture[str], tmp_path: Path, guesses: str
) -> None:
    draft = save(tmp_path / "draft", TINY)
    asked = [f"checkpoint={tiny.folder}", "prompt=What is 2 + 2?", "seed=1", "max_new_tokens=12", "dtype=fp32"]
    main(asked)
    expected = capsys.readouterr().out
    main([*asked, guesses.format(draft.folder)])
    assert capsys.readouterr().out == expected


def test_a_wrong_number_is_a_sentence(tiny: Checkpoint) -> None:
    with pytest.raises(EngineError, match=re.escape("temperature must be 0 or more, not -1")):
        main([f"checkpoint={tiny.folder}", "temperature=-1"])


def test_a_model_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\n\tc\x9b") == "a[2Jb\n\tc"


def chat_command(checkpoint: Checkpoint, *settings: str) -> list[str]:
    return [sys.executable, "-m", "resonance.cli", "chat", f"checkpoint={checkpoint.folder}", *settings]


def test_a_pipe_gets_plain_answers_one_for_each_line(tiny: Checkpoint) -> None:
    done = subprocess.run(
        chat_command(tiny, "temperature=0", "max_new_tokens=5", "dtype=fp32"),
        input="Hello!\n\nAnd you?\n/help\n",
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert "/retry" in done.stderr
    assert "/retry" not in done.stdout


class Terminal:
    """A chat in a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(PROJECT)
            os.execv(command[0], command)
        self.seen = ""

    def type(self, text: str) -> None:
        time.sleep(0.5)  # readline misses a signal that comes between its prompt and its first look at the keyboard
        os.write(self._fd, text.encode())

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        """What is shown up to the pattern; it is taken away."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            ready, _, _ = select.select([self._fd], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{pattern!r} was not shown; instead: {self.seen!r}"
            self.seen += os.read(self._fd, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found.group()

    def exit_code(self) -> int:
        """Read what is left and wait for the end."""
        while True:
            try:
                if not os.read(self._fd, 65536):
                    break
            except OSError:  # the other end is closed
                break
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@pytest.fixture
def terminal(slow: Checkpoint) -> Iterator[Terminal]:
    chat = Terminal(chat_command(slow, "max_new_tokens=4000", "dtype=fp32"))
    yield chat
    chat.close()


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    terminal.wait_for("/help lists the commands.*> ")
    terminal.type("Hello!\n")
    terminal.wait_for(r"Hello!\r\n.{20}")
    terminal.type("\x03")
    terminal.wait_for(r"[\d.]+ tokens/s · stopped.*> ")
    terminal.type("/nonsense\n")
    terminal.wait_for("There is no command '/nonsense'.*> ")
    terminal.type("/quit\n")
    assert terminal.exit_code() == 0


def test_a_second_ctrl_c_leaves(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("\x03")
    terminal.wait_for("Ctrl-C again or /quit leaves.*> ")
    terminal.type("\x03")
    assert terminal.exit_code() == 130


def test_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.exit_code() == 0
