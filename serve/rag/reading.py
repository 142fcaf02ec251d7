"""Files of a person's own as passages of plain text: Markdown, text, HTML and PDF.

A passage is a few sentences under one heading, short enough that three of them fit into the prompt.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import pypdf
from markdown_it import MarkdownIt

from serve.rag.pages import article_text, title_of
from serve.rag.text import sentences

SUFFIXES = frozenset((".txt", ".text", ".md", ".markdown", ".rst", ".html", ".htm", ".pdf"))
# pypdf logs each oddity of a file; what cannot be read is told in a sentence of ours.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)
# Characters of one passage: about 200 tokens of GPT-2.
PASSAGE = 800


class Unreadable(Exception):
    """A file that holds no text that can be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Text under a heading; `title` is the document's title, with the heading where it differs."""

    title: str
    text: str


def read_passages(path: Path) -> list[Passage]:
    """All passages of one file, in order. Raises Unreadable."""
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        return _of_pdf(path)
    text = _decoded(path)
    if suffix in (".html", ".htm"):
        return _of_html(path, text)
    if suffix in (".md", ".markdown"):
        return _of_markdown(path, text)
    return _split(_title_from_name(path), text)


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    if b"\0" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("it is not text")
    for encoding in (
        ("utf-16", "utf-8-sig", "cp1252") if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    ):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "replace")


def _of_pdf(path: Path) -> list[Passage]:
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is encrypted")
        title = str((reader.metadata and reader.metadata.title) or "").strip() or _title_from_name(path)
        pages = [page.extract_text() for page in reader.pages]
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises many kinds for broken files
        raise Unreadable(f"it is no PDF that can be read ({error})") from error
    # A word broken at a line's end is one word.
    text = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", "\n\n".join(pages))
    if not text.strip():
        raise Unreadable("its pages hold no text (pictures of text are not read)")
    return _split(title, text)


def _of_html(path: Path, text: str) -> list[Passage]:
    title = title_of(text) or _title_from_name(path)
    return _split(title, article_text(text))


def _of_markdown(path: Path, text: str) -> list[Passage]:
    """Sections by heading; code and tables stay as they read."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    title, heading = "", ""
    passages: list[Passage] = []
    block: list[str] = []

    def close() -> None:
        whole = title or _title_from_name(path)
        name = whole if not heading or heading == whole else f"{whole}: {heading}"
        passages.extend(_split(name, "\n\n".join(block)))
        block.clear()

    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for place, token in enumerate(tokens):
        if token.type == "inline":
            plain = "".join(
                " " if child.type in ("softbreak", "hardbreak") else child.content
                for child in token.children or []
                if child.type in ("text", "code_inline", "softbreak", "hardbreak")
            )
            before = tokens[place - 1]
            if before.type == "heading_open":
                close()
                heading = plain.strip()
                if before.tag == "h1" and not title:
                    title = heading
            elif before.type in ("td_open", "th_open"):
                block.append(
                    f"{block.pop()}, {plain}"
                    if block and before.type == "td_open" and tokens[place - 2].type != "tr_open"
                    else plain
                )
            else:
                block.append(plain)
        elif token.type in ("fence", "code_block"):
            block.append(token.content)
    close()
    return passages


def _split(title: str, text: str) -> list[Passage]:
    """Paragraphs gathered up to PASSAGE characters; a longer paragraph is cut between sentences."""
    passages: list[Passage] = []
    gathered = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in sentences(" ".join(paragraph.split()), longest=PASSAGE):
            if gathered and len(gathered) + len(sentence) >= PASSAGE:
                passages.append(Passage(title, gathered))
                gathered = ""
            gathered = f"{gathered} {sentence}" if gathered else sentence
        if gathered and gathered[-1].isalnum():
            gathered += "."  # a heading or list entry without a full stop is a sentence of its own
    if gathered:
        passages.append(Passage(title, gathered))
    return passages


def _title_from_name(path: Path) -> str:
    name = re.sub(r"[-_]+", " ", path.stem).strip()
    return name[:1].upper() + name[1:] if name else path.name
