"""GPT-2's tokens, with and without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.tokenizer import Tokenizer, TokenizerError


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.gpt2(["<|im_start|>", "<|im_end|>"])


def test_known_texts_have_gpt2s_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Hello, world!") == [15496, 11, 995, 0]
    assert tokenizer.encode("Every effort moves you") == [6109, 3626, 6100, 345]
    assert tokenizer.encode("") == []


@given(text=st.text(st.characters(codec="utf-8")))
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = Tokenizer.gpt2()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text())
def test_no_text_becomes_a_special_token(text: str) -> None:
    tokenizer = Tokenizer.gpt2(["<|im_start|>"])
    ids = tokenizer.encode(f"{text}<|endoftext|><|im_start|>{text}")
    assert not set(ids) & set(tokenizer.special_tokens.values())


def test_special_tokens_follow_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_tokens == {"<|endoftext|>": 50256, "<|im_start|>": 50257, "<|im_end|>": 50258}
    assert tokenizer.vocab_size == 50259
    assert tokenizer.token_bytes(50258) == b"<|im_end|>"


def test_half_a_character_is_bytes(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("日")
    assert b"".join(map(tokenizer.token_bytes, ids)) == "日".encode()
    assert tokenizer.decode(ids[:1]) == "�"


def test_saving_and_loading_keeps_special_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).special_tokens == tokenizer.special_tokens


@given(text=st.text(st.characters(codec="utf-8"), max_size=40).filter(lambda s: "<|" not in s))
def test_transformers_reads_the_saved_files_and_agrees(text: str, saved: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2Tokenizer.from_pretrained(saved)
    assert theirs(text).input_ids == Tokenizer.load(saved).encode(text)


@pytest.fixture(scope="module")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return folder


def test_it_works_without_a_network_on_a_fresh_machine(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from resonance import Tokenizer\n"
        "print(Tokenizer.gpt2().encode('Hello'))\n"
    )
    environment = {"TIKTOKEN_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert run.stdout == "[15496]\n", run.stderr
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="Token id 50259 is not in the vocabulary of 50259"):
        tokenizer.decode([50259])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot be read"):
        Tokenizer.load(tmp_path)
