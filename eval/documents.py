"""Text files as documents, and documents as segments, the unit of observation of a text's perplexity.

A segment is a line with its line end; blank lines belong to the line before. Segments depend on no model, so that two
models' losses pair by segment.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.detokenizers import Detokenizer
from eval.jsonl import BadFile, read_jsonl, read_text

_FOLDER_SUFFIXES = (".md", ".txt")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a document; `words` counts the white-space-separated words of the original, before de-tokenising."""

    text: str
    words: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document of at least one segment; their texts in a row are the whole text."""

    name: str
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The text that a model reads."""
        return "".join(segment.text for segment in self.segments)


def read_documents(
    paths: Sequence[str | Path],
    *,
    separator: str | None,
    field: str,
    detokenize: Detokenizer,
    count_line_ends: bool,
) -> list[Document]:
    """Read the documents of files in order; a folder stands for its .md and .txt files, by name.

    Each line of a JSONL file is a document, its text in `field`. Any other file is split at lines that equal
    `separator`; None: the file is one document. With `count_line_ends` each line end of the original is a word too, as
    in data sets whose vocabulary has an end-of-line token.

    Raises BadFile when a file cannot be read, a line is malformed, or there is no text.
    """
    documents = [
        Document(name, segments)
        for path in paths
        for name, text in _texts(Path(path).expanduser(), separator, field)
        if (segments := tuple(_segments(text, detokenize, count_line_ends)))
    ]
    if not documents:
        raise BadFile(f"There is no text in {', '.join(map(str, paths))}; give a file with text.")
    return documents


def _texts(path: Path, separator: str | None, field: str) -> Iterator[tuple[str, str]]:
    """The name and text of each document of a file."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _FOLDER_SUFFIXES and file.is_file())
        if not files:
            raise BadFile(f"The folder {path} has no {' or '.join(_FOLDER_SUFFIXES)} files; name a file.")
        for file in files:
            yield from _texts(file, separator, field)
    elif path.suffix in (".jsonl", ".ndjson"):
        for line in read_jsonl(path):
            yield f"{path.name}:{line.number}", line.checked(line.text(field), field)
    elif separator is None:
        yield path.name, read_text(path)
    else:
        parts = re.split(rf"^{re.escape(separator)}(?:\n|$)", read_text(path), flags=re.MULTILINE)
        yield from ((f"{path.name}:{number}", part) for number, part in enumerate(parts, 1))


def _segments(text: str, detokenize: Detokenizer, count_line_ends: bool) -> Iterator[Segment]:
    lines: list[str] = []  # of the current segment
    for line in text.split("\n"):
        if line.strip() and any(each.strip() for each in lines):
            yield _segment([*lines, ""], detokenize, count_line_ends)
            lines = []
        lines.append(line)
    if any(line.strip() for line in lines):
        yield _segment(lines, detokenize, count_line_ends)


def _segment(lines: Sequence[str], detokenize: Detokenizer, count_line_ends: bool) -> Segment:
    words = sum(len(line.split()) for line in lines) + (len(lines) - 1 if count_line_ends else 0)
    return Segment("\n".join(map(detokenize, lines)), words)
