"""Splits documents (Markdown, text, HTML, PDF) into passages of plain text.

A passage is a few sentences under one heading, short enough that three of them fit into a prompt.
"""

import io
import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pypdf
from markdown_it import MarkdownIt
from markdown_it.token import Token

from resonance.retrieval.fetch import outline_of, seen_text
from resonance.retrieval.sanitize import visible
from resonance.retrieval.text import sentences

SUFFIXES = frozenset((".txt", ".text", ".md", ".markdown", ".rst", ".html", ".htm", ".pdf"))
# pypdf logs every irregularity of a file; unreadable files are reported by Unreadable instead.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)
PASSAGE = 800  # characters of one passage: about 200 GPT-2 tokens
_TITLE = 120
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# PDF metadata titles that are a program's name or a file name.
_NO_TITLE = re.compile(r"^(?:untitled|microsoft (?:word|excel|powerpoint) - )|\.[a-z]{3,5}$", re.I)
# Ligatures, which PDFs store as one character.
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}


class Unreadable(Exception):
    """A file without readable text; the message says why."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Text under a heading; `title` is the document's title, followed by the heading if it differs."""

    title: str
    text: str


def read_passages(path: Path, content: bytes) -> list[Passage]:
    """All passages of one file, in order; the suffix of `path` gives the format. Raises Unreadable."""
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        passages = _of_pdf(path, content)
    elif b"\0" in content[:4096] and not content.startswith(_UTF_16):
        raise Unreadable("it is not text")
    elif suffix in (".html", ".htm"):
        passages = _of_html(path, content)
    elif suffix in (".md", ".markdown"):
        passages = _of_markdown(path, _decoded(content))
    else:
        passages = _split(_title_from_name(path), _decoded(content))
    if not passages:
        raise Unreadable("it holds no text")
    return passages


def _strictly(content: bytes) -> str:
    """Decode UTF-8 or UTF-16. Raises UnicodeDecodeError."""
    return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")


def _decoded(content: bytes) -> str:
    """Decode UTF-8 or UTF-16, tolerating a few invalid bytes; otherwise Windows-1252."""
    try:
        return _strictly(content)
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", "replace")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    if 2 * text.count("\N{REPLACEMENT CHARACTER}") < beyond_ascii:
        return text
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _of_pdf(path: Path, content: bytes) -> list[Passage]:
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is encrypted")
        title = str((reader.metadata and reader.metadata.title) or "").strip()
        text = "\n\n".join(map(_on_page, reader.pages))
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises many exception types for damaged files
        raise Unreadable(f"it is no PDF that can be read ({error})") from error
    if not text.strip():
        raise Unreadable("its pages hold no text (pictures of text are not read)")
    if not title or _NO_TITLE.search(title):
        title = _title_from_name(path)
    # Join words hyphenated at a line end.
    return _split(title, re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", text).translate(_LIGATURES))


def _on_page(page: pypdf.PageObject) -> str:
    """A page's text; empty if the page is damaged."""
    try:
        return page.extract_text()
    except Exception:  # as above
        return ""


def _of_html(path: Path, content: bytes) -> list[Passage]:
    try:
        page = _strictly(content)
    except UnicodeDecodeError:
        page = content  # the parser uses the encoding that the page declares
    return _of_page(path, page)


def _of_page(path: Path, page: str | bytes) -> list[Passage]:
    """All sections of a page: article extraction would lose tables, lists and headings of short pages."""
    outline = outline_of(page)
    return _of_sections(outline.title or _title_from_name(path), outline.headings, seen_text(page).split("\n\n"))


def _of_markdown(path: Path, text: str) -> list[Passage]:
    """Sections by heading; code and tables are kept, hidden HTML is left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text.replace("\r\n", "\n"), flags=re.S)
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text)
    if any(one.type in ("html_block", "html_inline") for token in tokens for one in (token, *(token.children or ()))):
        return _of_page(path, reader.render(text))
    return _of_tokens(_title_from_name(path), tokens)


def _of_tokens(name: str, tokens: list[Token]) -> list[Passage]:
    title, heading = "", ""
    passages: list[Passage] = []
    block: list[str] = []

    def close() -> None:
        passages.extend(_split(_under(title or name, heading), "\n\n".join(block)))
        block.clear()

    for index, token in enumerate(tokens):
        if token.type == "inline":
            plain = "".join(
                " " if child.type in ("softbreak", "hardbreak") else child.content
                for child in token.children or []
                if child.type in ("text", "code_inline", "softbreak", "hardbreak", "image")
            )
            before = tokens[index - 1]
            if before.type == "heading_open":
                close()
                heading = plain.strip()
                if before.tag == "h1" and not title:
                    title = heading
            elif before.type in ("td_open", "th_open"):
                block.append(
                    f"{block.pop()}, {plain}"
                    if block and before.type == "td_open" and tokens[index - 2].type != "tr_open"
                    else plain
                )
            else:
                block.append(plain)
        elif token.type in ("fence", "code_block"):
            block.append(token.content)
    close()
    return passages or _split(title or name, _headings_of(tokens))


def _headings_of(tokens: list[Token]) -> str:
    """The headings of a text that has no other content."""
    return "\n\n".join(token.content for token in tokens if token.type == "inline")


def _of_sections(title: str, headings: frozenset[str], paragraphs: Iterable[str]) -> list[Passage]:
    """Passages of paragraphs, some of which are headings."""
    passages: list[Passage] = []
    heading = ""
    block: list[str] = []
    seen: list[str] = []
    for paragraph in paragraphs:
        seen.append(paragraph)
        if paragraph not in headings:
            block.append(paragraph)
            continue
        passages.extend(_split(_under(title, heading), "\n\n".join(block)))
        block.clear()
        heading = paragraph
    passages.extend(_split(_under(title, heading), "\n\n".join(block)))
    return passages or _split(title, "\n\n".join(seen))


def _under(title: str, heading: str) -> str:
    return title if not heading or heading == title else f"{title}: {heading}"


def _split(title: str, text: str) -> list[Passage]:
    """Group paragraphs into passages of up to PASSAGE characters; longer paragraphs are split between sentences."""
    title = " ".join(visible(title).split())[:_TITLE]
    passages: list[Passage] = []
    gathered = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in sentences(" ".join(visible(paragraph).split()), longest=PASSAGE):
            if gathered and len(gathered) + len(sentence) >= PASSAGE:
                passages.append(Passage(title, gathered))
                gathered = ""
            gathered = f"{gathered} {sentence}" if gathered else sentence
        if gathered and gathered[-1].isalnum():
            gathered += "."  # a heading or list item without a full stop is a sentence
    if gathered:
        passages.append(Passage(title, gathered))
    return passages


def _title_from_name(path: Path) -> str:
    name = re.sub(r"[-_]+", " ", path.stem).strip()
    return name[:1].upper() + name[1:] if name else path.name
