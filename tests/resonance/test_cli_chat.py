"""`resonance chat`: in a pipe, on a terminal, and the dialogue behind both."""

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from resonance.chat_template import ContextOverflow, Message, Window
from resonance.checkpoint import Checkpoint
from resonance.cli.chat import Chat, Screen, TerminalError, main, make_retriever, printable
from resonance.conversation import Conversation, ConversationError
from resonance.engine import Engine, EngineError, SamplingParams
from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
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
    return Conversation(Engine.from_checkpoint(tiny, dtype="fp32"), tiny.template(), sampling, Window(128))


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


def test_older_turns_go_where_the_model_has_learned_from_shorter_conversations(tiny: Checkpoint) -> None:
    engine, sampling = Engine.from_checkpoint(tiny, dtype="fp32"), SamplingParams(max_new_tokens=2, seed=1)
    short = Conversation(engine, tiny.template(), sampling, Window(128, trained_length=30))
    whole = Conversation(engine, tiny.template(), sampling, Window(128))
    for chat in (short, whole):
        for _ in range(2):
            chat.ask("How are you this morning?", lambda _: True)
    assert short.ask("And now?", lambda _: True).dropped > 0
    assert whole.ask("And now?", lambda _: True).dropped == 0
    assert short.ask("word " * 60, lambda _: True).tokens == 2  # longer than any it learned from, and still answered


def test_the_same_seed_gives_the_same_conversation_and_each_turn_its_own_answer(tiny: Checkpoint) -> None:
    def talk() -> list[str]:
        engine = Engine.from_checkpoint(tiny, dtype="fp32")
        chat = Conversation(engine, tiny.template(), SamplingParams(max_new_tokens=6, seed=1), Window(128))
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
    with pytest.raises(ConversationError, match="write one first"):
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


def test_a_conversation_starts_with_why_torch_computes_it(
    tiny: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello!\n"))
    main([f"checkpoint={tiny.folder}", "max_new_tokens=2", "dtype=fp32"])
    printed = capsys.readouterr()
    assert printed.err.count("Computed by torch, which is slower than the C++ kernels") == 1  # its heads are too narrow
    assert "Computed by torch" not in printed.out


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


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One whose window has room for sources."""
    return save(
        tmp_path_factory.mktemp("runs") / "roomy",
        GPT2Config(context_length=384, n_layer=1, n_head=2, n_embd=16, dropout=0.0),
    )


@pytest.fixture
def documents(tmp_path: Path) -> list[str]:
    """Settings of a chat that answers from a folder."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "mountains.md").write_text("# Mountains\n\nThe Zugspitze has a height of 2962 metres.\n")
    (folder / "rivers.txt").write_text("The Isar is a river that flows through Munich.\n")
    return ["search=documents", f"search.path={folder}", f"search.index={tmp_path / 'index'}"]


def asked_from(
    roomy: Checkpoint, settings: list[str], capsys: pytest.CaptureFixture[str], question: str
) -> tuple[str, str]:
    """What one question brings to the two outputs."""
    main([f"checkpoint={roomy.folder}", "max_new_tokens=5", "seed=1", f"prompt={question}", *settings])
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_an_answer_from_documents_has_its_numbered_sources_below_it(
    roomy: Checkpoint, documents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = asked_from(roomy, documents, capsys, "How high is the Zugspitze?")
    assert len(out.strip()) > 0
    assert err.splitlines() == ["Found in documents for 'How high Zugspitze':", "[1] Mountains · mountains.md"]


def test_what_a_search_does_not_find_is_said(
    roomy: Checkpoint, documents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked_from(roomy, documents, capsys, "Who painted the Mona Lisa?")[1] == "The search found nothing.\n"
    assert asked_from(roomy, documents, capsys, "Hello!")[1] == ""


def test_with_the_provider_down_the_chat_answers_and_says_so(
    roomy: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nowhere = ["search=duckduckgo", f"search.search_url=http://127.0.0.1:{port}/", "search.cache=null"]
    out, err = asked_from(roomy, nowhere, capsys, "Who is the mayor of Paris?")
    assert out.strip()
    assert err == "The search cannot be reached; this answer goes on without sources.\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["search=foo"], "There is no search 'foo'"),
        (["search=documents"], "search=documents needs search.path=PATH"),
        (["search=documents", "search.path=/no/such/folder"], "/no/such/folder does not exist"),
        (["search=documents", "search.pth=x"], "did you mean 'search.path'"),
    ],
)
def test_a_search_that_cannot_work_is_a_sentence(tiny: Checkpoint, settings: list[str], message: str) -> None:
    with pytest.raises(ResonanceError, match=re.escape(message)):
        main([f"checkpoint={tiny.folder}", *settings])


def saying(*words: str) -> SamplingParams:
    """Settings with which any model says these tokens in this order."""
    ids = [Tokenizer.gpt2().encode(word) for word in words]
    assert all(len(token) == 1 for token in ids)
    bias = {token[0]: 100 - 0.4 * place for place, token in enumerate(ids)}
    return SamplingParams(max_new_tokens=len(words), temperature=0.0, frequency_penalty=2.0, logit_bias=bias)


def searching(roomy: Checkpoint, documents: list[str], sampling: SamplingParams) -> Conversation:
    retriever = make_retriever(compose("chat", documents))
    engine = Engine.from_checkpoint(roomy, dtype="fp32")
    return Conversation(engine, roomy.template(), sampling, roomy.window, retriever=retriever)


def test_a_source_that_holds_the_answer_is_marked(
    roomy: Checkpoint, documents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = searching(roomy, documents, saying(" height", " metres", " [", "1", "]"))
    Chat(conversation, Screen(interactive=False)).run(["How high is the Zugspitze?"])
    printed = capsys.readouterr()
    assert printed.out == " height metres [1]\n"
    assert "[1] Mountains · mountains.md · holds what is said" in printed.err
    assert conversation.turns == [
        Message("user", "How high is the Zugspitze?"),  # sources are for one answer
        Message("assistant", "height metres [1]"),
    ]


def test_a_number_that_no_source_has_is_never_shown(
    roomy: Checkpoint, documents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = searching(roomy, documents, saying(" height", " metres", " [", "9", "]"))
    Chat(conversation, Screen(interactive=False)).run(["How high is the Zugspitze?"])
    assert capsys.readouterr().out == " height metres\n"
    assert conversation.turns[-1].content == "height metres"


def test_a_search_can_be_switched_off_and_on(
    roomy: Checkpoint, documents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    chat = Chat(searching(roomy, documents, SamplingParams(max_new_tokens=2)), Screen(interactive=False))

    def said(*lines: str) -> str:
        chat.run(lines)
        return capsys.readouterr().err

    assert said("/search") == "Search in documents is auto.\n"
    assert said("Write a poem about the Isar") == ""
    assert said("/search on", "Write a poem about the Isar").endswith("[1] Rivers · rivers.txt\n")
    assert said("/search off", "How high is the Zugspitze?") == "Search in documents is off.\n"
    assert "[1] Mountains" in said("/search auto", "/retry")
    assert said("/search auto documents") == "Search in documents is auto.\n"
    with pytest.raises(TerminalError, match="does not search 'web'; it searches documents"):
        said("/search auto web")
    with pytest.raises(TerminalError, match="/search takes on, off, auto, not 'maybe'"):
        said("/search maybe")


def test_a_chat_that_is_to_search_for_everything_does(roomy: Checkpoint, documents: list[str]) -> None:
    conversation = searching(roomy, [*documents, "search.when=always"], SamplingParams(max_new_tokens=2))
    assert conversation.search_mode == "on"
    assert conversation.ask("Write a poem about the Isar", lambda _: True).retrieved is not None
    conversation.search_mode = "auto"
    assert conversation.ask("Write a poem about the Isar", lambda _: True).retrieved is None


def test_without_a_search_there_is_none_to_switch_on(conversation: Conversation) -> None:
    with pytest.raises(TerminalError, match="start it with search=documents"):
        Chat(conversation, Screen(interactive=False)).run(["/search on"])


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


def test_ctrl_c_stops_a_search_at_once_and_not_the_program(slow: Checkpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"search.search_url=http://127.0.0.1:{silent.getsockname()[1]}/"
        patient = ["search.limits.deadline=60", "search.limits.attempt=5", "search.cache=null"]
        chat = Terminal(chat_command(slow, "dtype=fp32", "search=duckduckgo", url, *patient))
        try:
            chat.wait_for("Search in duckduckgo is auto.*> ")
            chat.type("Who is the mayor of Paris?\n")
            silent.settimeout(60)
            silent.accept()
            chat.type("\x03")
            chat.wait_for("0 tokens · stopped.*> ", seconds=20)
            chat.type("/quit\n")
            assert chat.exit_code() == 0
        finally:
            chat.close()


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
