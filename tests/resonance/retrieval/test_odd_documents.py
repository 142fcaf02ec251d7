"""Folders as people have them: odd names, odd encodings, broken files, files that change while they are read."""

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from resonance.retrieval import SearchError
from resonance.retrieval.documents.passages import Unreadable, read_passages
from resonance.retrieval.documents.provider import UPDATE_TIMEOUT, Documents
from resonance.retrieval.index import MAX_WARNINGS, Index, IndexHit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    made.mkdir()
    (made / "cats.txt").write_text("Cats sleep for fifteen hours a day.")
    return made


def index_of(folder: Path) -> Index:
    return Index(folder, folder.parent / "index")


def found(folder: Path, query: str) -> list[IndexHit]:
    index = index_of(folder)
    index.update()
    return index.search(query, 5)


def passages(name: str, content: str | bytes) -> list[tuple[str, str]]:
    content = content if isinstance(content, bytes) else content.encode()
    return [(passage.title, passage.text) for passage in read_passages(Path(name), content)]


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"line\nbreak.txt", b"a:b?c#d [2] %41.txt", "日本.txt".encode()])
def test_a_file_of_any_name_is_found(folder, name):
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("Otters hold hands.")
    (otter,) = found(folder, "otters")
    assert otter.path.encode().decode() == otter.path and otter.path.endswith(".txt")


def test_links_that_lead_in_circles_or_nowhere_are_left_out(folder):
    (folder / "circle").symlink_to(folder)
    (folder / "self.txt").symlink_to(folder / "self.txt")
    (folder / "gone.txt").symlink_to(folder / "nothing.txt")
    os.mkfifo(folder / "pipe.txt")
    index = index_of(folder)
    assert (index.update().files, index.update().skipped) == (1, ())


def test_a_deep_folder_is_read_to_its_bottom(folder):
    deep = folder.joinpath(*["d"] * 400)
    deep.mkdir(parents=True)
    (deep / "otter.txt").write_text("Otters hold hands.")
    assert found(folder, "otters")[0].path.endswith("d/otter.txt")


def test_files_that_come_and_go_while_they_are_read_cost_nothing_but_themselves(folder):
    index, ends = index_of(folder), threading.Event()

    def change() -> None:
        while not ends.is_set():
            for number in range(50):
                (folder / f"n{number}.txt").write_text(f"Otter {time.monotonic()} holds hands.")
            for number in range(50):
                with contextlib.suppress(FileNotFoundError):
                    (folder / f"n{number}.txt").unlink()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(15):
            index.update()
            assert index.search("cats", 1)[0].path == "cats.txt"
    finally:
        ends.set()
        changing.join()
    assert index.update().files == 1
    assert index.search("otter", 5) == []


def test_the_same_index_serves_searches_while_it_is_brought_up_to_date(folder):
    provider = Documents(index_of(folder), refresh_s=0.0)
    for number in range(400):
        (folder / f"n{number}.md").write_text(f"# Otter {number}\n\n" + "An otter holds hands. " * 300)
    started = time.perf_counter()
    assert provider._search("cats", 1)[0].url == "cats.txt"
    assert time.perf_counter() - started < UPDATE_TIMEOUT + 0.5
    ends = time.monotonic() + 60
    while not provider._search("otter 399", 1) and time.monotonic() < ends:
        time.sleep(0.05)
    assert provider._search("otter 399", 1)[0].url == "n399.md"


def test_what_has_been_read_is_searched_where_changes_cannot_be_stored(folder, caplog):
    index = index_of(folder)
    provider = Documents(index, refresh_s=0.0)
    (folder / "new.txt").write_text("Otters hold hands.")
    for generation in (2, 3):  # a file where the next generation's folder belongs
        (index.folder / f"bm25-{generation}").write_text("x")
    assert provider._search("cats", 1)[0].url == "cats.txt"
    assert provider._search("cats", 1)[0].url == "cats.txt"
    (message,) = caplog.messages
    assert message.startswith("Changes of the documents are not seen: the index in ")
    with pytest.raises(SearchError, match="cannot be written"):
        index.update()


def test_of_many_files_that_cannot_be_read_some_are_named_and_the_others_counted(folder):
    for number in range(MAX_WARNINGS + 5):
        (folder / f"p{number:02}.pdf").write_bytes(b"no pdf")
    warnings = index_of(folder).update().warnings(folder)
    assert len(warnings) == MAX_WARNINGS + 1 and warnings[-1] == "5 more files are left out."


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.rst"])
@pytest.mark.parametrize("content", [b"", b" \n\n ", b"\xef\xbb\xbf", "\u200b\u202e".encode()])
def test_a_file_without_text_is_told(name, content):
    with pytest.raises(Unreadable, match="it holds no text"):
        read_passages(Path(name), content)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"PK\x03\x04\x14\0\0", bytes(range(256)) * 20])
def test_a_binary_file_under_a_name_of_text_is_told(name, content):
    with pytest.raises(Unreadable, match="it is not text"):
        read_passages(Path(name), content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one-line.txt", b"word " * 1_000_000),
        ("no-spaces.txt", b"x" * 5_000_000),
        ("initials.txt", b"A. " * 500_000),
        ("no-spaces.html", b"<p>" + b"x" * 2_000_000),
        ("blank.txt", b"a" + b"\n" * 2_000_000 + b"b"),
    ],
)
def test_a_huge_file_of_any_shape_is_read_in_seconds(name, content):
    started = time.process_time()
    assert passages(name, content)
    assert time.process_time() - started < 6.0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Crème brûlée – ready.".encode("latin-1", "replace"), "Crème brûlée ? ready."),
        ("Crème brûlée – ready.".encode("cp1252"), "Crème brûlée – ready."),
        ("Crème brûlée".encode() + b"\xff " + "déjà vu".encode(), "Crème brûlée\ufffd déjà vu."),
        (b"caf\xe9 \x81 bar.", "café bar."),
        ("Grüße.".encode("utf-16-be").join((b"\xfe\xff", b"")), "Grüße."),
    ],
)
def test_text_is_decoded_as_it_was_most_likely_written(content, text):
    assert passages("a.txt", content) == [("A", text)]


@pytest.mark.parametrize("encoding", ["iso-8859-2", "windows-1251", "shift_jis", "utf-8"])
def test_an_html_file_is_decoded_as_it_declares(encoding):
    word = {"iso-8859-2": "Łódź", "windows-1251": "Москва", "shift_jis": "東京", "utf-8": "Łódź"}[encoding]
    page = (
        f"<html><head><meta charset={encoding}><title>{word}</title></head><body><p>City of {word}.</p></body></html>"
    )
    assert passages("a.html", page.encode(encoding)) == [(word, f"City of {word}.")]


def test_front_matter_of_windows_is_no_text():
    assert passages("a.md", "---\r\nauthor: x\r\n---\r\n# Router\r\n\r\nHold the button.\r\n") == [
        ("Router", "Hold the button.")
    ]


def test_what_markdown_hides_in_html_is_left_out_and_what_it_shows_stays():
    text = (
        "# Router\n\n<!-- OWNED one -->\n\nHold <span style='display:none'>OWNED two</span>the <b>button</b>.\n\n"
        "<div hidden>\n\nOWNED three\n\n</div>\n\n## Colours\n\n<p align=center>Red means restart.</p>\n\n"
        "<details><summary>More</summary>Yellow means no signal.</details>\n"
    )
    assert passages("a.md", text) == [
        ("Router", "Hold the button."),
        ("Router: Colours", "Red means restart. More. Yellow means no signal."),
    ]


def test_the_words_of_a_picture_and_of_headings_alone_are_text():
    assert passages("a.md", "# Map\n\n![The way to the pier](map.png)\n") == [("Map", "The way to the pier.")]
    assert passages("a.md", "# Closed on Mondays\n") == [("Closed on Mondays", "Closed on Mondays.")]
    assert passages("a.html", "<h1>Closed on Mondays</h1>") == [("Closed on Mondays", "Closed on Mondays.")]


@pytest.mark.parametrize("more", [0, 60])
def test_an_html_files_headings_title_their_passages_and_its_tables_keep_their_rows(more):
    page = (
        f"<html><head><title>Router</title></head><body><nav>Home</nav><h1>Router</h1>"
        f"<p>It is in the hall.{' It is white.' * more}</p>"
        f"<h2>Reset</h2><p>Hold the button for ten seconds.{' Then wait a while.' * more}</p><h2>Colours</h2><table>"
        "<tr><th>light</th><th>meaning</th></tr><tr><td>red</td><td>restart</td></tr></table></body></html>"
    )
    found = dict(passages("a.html", page))
    assert list(found) == ["Router", "Router: Reset", "Router: Colours"]
    assert found["Router: Colours"] == "light, meaning. red, restart."


def test_a_title_is_cut_where_nobody_reads_on():
    ((title, _),) = passages("a.html", f"<title>{'word ' * 100_000}</title><p>Text.</p>")
    assert len(title) <= 120


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Cafe\u0301 Bo\u0308hm opens at nine.", "Café Böhm"),
        ("Café Böhm opens at nine.", "cafe bohm"),
        ("The ﬁlter of the coﬀee machine.", "coffee filter"),
        ("The width is ５００ km².", "500 km2"),
        ("The ware\u00adhouse is big.", "warehouse"),
    ],
)
def test_words_are_found_however_they_are_written(folder, written, asked):
    (folder / "x.txt").write_text(written)
    assert found(folder, asked)[0].path == "x.txt"
