"""Text files become documents and segments without losing a character; malformed ones are named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import EvalError
from eval.detokenizers import detokenizer, treebank, wikitext
from eval.documents import Document, _segments, read_documents  # pyright: ignore[reportPrivateUsage]
from eval.jsonl import read_jsonl


def read(*paths: Path, separator: str | None = None, detokenize: str | None = None) -> list[Document]:
    return read_documents(
        paths, separator=separator, field="text", detokenize=detokenizer(detokenize), count_line_ends=False
    )


@given(st.text(st.sampled_from("ab \n\t."), max_size=60))
def test_segments_in_a_row_are_the_text(text: str) -> None:
    segments = list(_segments(text, detokenizer(None), count_line_ends=False))
    assert "".join(segment.text for segment in segments) == (text if text.strip() else "")
    assert sum(segment.words for segment in segments) == len(text.split())


def test_a_segment_is_a_line_with_the_blank_lines_after_it(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("One two.\n\n\nThree.\nFour", encoding="utf-8")
    (document,) = read(file)
    assert [segment.text for segment in document.segments] == ["One two.\n\n\n", "Three.\n", "Four"]
    assert [segment.words for segment in document.segments] == [2, 1, 1]


def test_a_marker_line_separates_documents(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("One.\n<|endoftext|>\nTwo <|endoftext|> inline.\n<|endoftext|>", encoding="utf-8")
    assert [document.text for document in read(file, separator="<|endoftext|>")] == [
        "One.\n",
        "Two <|endoftext|> inline.\n",
    ]


def test_each_jsonl_line_is_a_document_and_a_folder_stands_for_its_texts(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("Second", encoding="utf-8")
    (tmp_path / "a.md").write_text("First", encoding="utf-8")
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "Third"}\n\n{"text": "Fourth\\nline"}\n', encoding="utf-8")
    documents = read(tmp_path, lines)
    assert [document.text for document in documents] == ["First", "Second", "Third", "Fourth\nline"]
    assert documents[-1].name == "lines.jsonl:3"


def test_line_ends_count_as_words_where_the_data_set_counts_them() -> None:
    segments = list(_segments(" = Title = \n \n Some <unk> words . \n", detokenizer("wikitext"), count_line_ends=True))
    assert [segment.words for segment in segments] == [3 + 2, 4 + 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "fine"}\n{"text": ', r"lines\.jsonl, line 2: Expecting value at column 10"),
        ('{"text": "fine"}\n["no object"]\n', r"line 2: \[\"no object\"\] is not a JSON object"),
        ('{"txt": "a"}\n', r"line 1: the field 'text' is missing; it has 'txt'"),
        ('{"text": 3}\n', r"line 1: the field 'text' is 3; it must be a text"),
        ('\n{"text": " "}\n', r"line 2: the field 'text' is empty"),
        ('{"text": "\\ud800"}\n', r"line 1: the field 'text' holds half a character"),
        ("[" * 100_000, r"line 1: the JSON is nested too deeply"),
        ("\n\n", r"has no lines"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(EvalError, match=message):
        read(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"There is no file .*gone\.txt"):
        read(tmp_path / "gone.txt")
    with pytest.raises(EvalError, match=r"has no \.md or \.txt files"):
        read(tmp_path)
    with pytest.raises(EvalError, match="is a folder"):
        read_jsonl(tmp_path)
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n\n", encoding="utf-8")
    with pytest.raises(EvalError, match="There is no text"):
        read(blank)
    blank.write_bytes(b"one\ntwo \xff\n")
    with pytest.raises(EvalError, match="line 2: the bytes are not UTF-8"):
        read(blank)


@pytest.mark.parametrize(
    ("tokenised", "text"),
    [
        (" = = Early life = = ", "== Early life =="),
        ('He said , " well @-@ known " . ', 'He said, "well-known". '),
        ("1 @,@ 000 m ( 3 @.@ 3 ft ) ; it 's 5 %", "1,000 m (3.3 ft); it's 5%"),
        ("x = y = z", "x = y = z"),
    ],
)
def test_wikitext_reads_like_ordinary_text(tokenised: str, text: str) -> None:
    assert wikitext(tokenised) == text


def test_treebank_quotes_and_contractions_read_like_ordinary_text() -> None:
    assert treebank("`` i do n't know , '' said mary 's friend .") == "\"i don't know,\" said mary's friend."


def test_an_unknown_detokenizer_lists_those_there_are() -> None:
    with pytest.raises(EvalError, match="There is no detokenizer 'ptb'; choose one of wikitext, treebank"):
        detokenizer("ptb")
