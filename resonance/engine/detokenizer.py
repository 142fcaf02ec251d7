"""Incremental detokenization: tokens to text, up to a stop string."""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Detokenizer:
    """Decodes one sequence's tokens into text, piece by piece.

    The pieces add up to the text of all tokens (malformed UTF-8 replaced, as `bytes.decode` does) up to the first
    stop string. Only text that may still change is held back: the bytes of an unfinished character, and a suffix with
    which a stop string may begin.
    """

    token_bytes: Callable[[int], bytes]
    stop: Sequence[str] = ()
    text: str = ""  # all text returned so far
    stopped: bool = False  # a stop string was found; later tokens are ignored
    _pending: str = ""
    _ends: list[int] = field(default_factory=list[int])  # the number of characters after each token
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def add(self, token_id: int) -> str:
        """Decode one more token; return the text that can no longer change."""
        if self.stopped:
            return ""
        new = self._decoder.decode(self.token_bytes(token_id))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(new))
        return self._release(new, last=False)

    def finish(self) -> str:
        """Return the text that was held back; no token follows."""
        return "" if self.stopped else self._release(self._decoder.decode(b"", final=True), last=True)

    @property
    def tokens_in_text(self) -> int:
        """The number of tokens that begin before the end of `text`."""
        kept = len(self._ends)
        while self.stopped and kept and (self._ends[kept - 2] if kept > 1 else 0) >= len(self.text):
            kept -= 1
        return kept

    def _release(self, new: str, *, last: bool) -> str:
        pending = self._pending + new
        found = [at for at in map(pending.find, self.stop) if at >= 0]
        self.stopped = bool(found)
        uncertain = 0 if last else self._stop_prefix_length(pending)
        certain = min(found) if found else len(pending) - uncertain
        self._pending = pending[certain:]
        self.text += pending[:certain]
        return pending[:certain]

    def _stop_prefix_length(self, text: str) -> int:
        # The length of the longest suffix of `text` that is a proper prefix of a stop string.
        longest = 0
        for stop in self.stop:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
