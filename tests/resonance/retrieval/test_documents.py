"""A folder of documents: every format, an index that follows the folder, survives kills and is shared."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resonance.chat_template import Message
from resonance.cli.index import main
from resonance.retrieval import SearchError, build_retriever
from resonance.retrieval.documents.provider import Documents
from resonance.retrieval.index import Index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    (made / "deep" / "er").mkdir(parents=True)
    (made / "router.md").write_text(
        "---\nauthor: x\n---\n# Router\n\n## Reset\n\nHold the *button* for ten seconds.\n\n## Colours\n\n"
        "| light | meaning |\n|---|---|\n| red | restart |\n| yellow | no signal |\n"
    )
    (made / "deep" / "er" / "cats.txt").write_text("Cats sleep for fifteen hours a day.\n\nThey purr at 25 hertz.")
    (made / "bees.html").write_text(
        "<html><head><title>Bees</title></head><body><article><p>A colony holds fifty thousand bees in June, and "
        "the queen lays two thousand eggs a day.</p><p style='display:none'>hidden nectar</p></article></body></html>"
    )
    return made


def index_of(folder: Path) -> Index:
    return Index(folder, folder.parent / "index")


def pdf(text: str) -> bytes:
    """A one-page PDF, written by hand: five objects and a table of where they are."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        start,
    )


@pytest.mark.parametrize(
    ("query", "path", "words"),
    [
        ("reset router", "router.md", "Hold the button for ten seconds."),
        ("yellow light meaning", "router.md", "yellow, no signal"),
        ("how long do cats sleep", "deep/er/cats.txt", "fifteen hours"),
        ("eggs of the queen", "bees.html", "two thousand eggs"),
    ],
)
def test_text_markdown_and_html_are_found_with_their_titles(folder, query, path, words):
    index = index_of(folder)
    index.update()
    best = index.search(query, 1)[0]
    assert best.path == path and words in best.text
    assert "hidden nectar" not in best.text and "author" not in best.text


def test_a_heading_is_part_of_a_passages_title(folder):
    index = index_of(folder)
    index.update()
    assert index.search("reset", 1)[0].title == "Router: Reset"


def test_a_pdf_is_found(folder):
    (folder / "warranty-card.pdf").write_bytes(pdf("The warranty lasts 24 months."))
    index = index_of(folder)
    assert index.update().skipped == ()
    best = index.search("how long is the warranty", 1)[0]
    assert (best.title, best.path) == ("Warranty card", "warranty-card.pdf")
    assert "24 months" in best.text


@pytest.mark.parametrize(
    ("info", "title"),
    [
        (b"(Warranty of the pump)", "Warranty of the pump"),
        (b"(untitled)", "Card"),
        (b"(Microsoft Word - card.docx)", "Card"),
    ],
)
def test_a_pdf_is_called_what_its_writer_called_it_unless_a_program_did(folder, info, title):
    card = pdf("The warranty lasts 24 months.").replace(b"/Root 1 0 R", b"/Root 1 0 R /Info << /Title %s >>" % info)
    (folder / "card.pdf").write_bytes(card)
    index = index_of(folder)
    index.update()
    assert index.search("how long is the warranty", 1)[0].title == title


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pdf", b"no pdf at all"), ("b.pdf", b""), ("c.txt", b"\x00\x01\x02" * 50), ("d.pdf", pdf(""))],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_stay(folder, name, content):
    (folder / name).write_bytes(content)
    index = index_of(folder)
    update = index.update()
    assert len(update.skipped) == 1 and update.skipped[0].startswith(f"{name} is left out: ")
    assert index.search("cats", 1)
    again = index.update()  # it is not tried again until it changes, and still told
    assert (again.added, again.changed, again.skipped) == (0, 0, update.skipped)
    (folder / name).unlink()
    assert index.update().skipped == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_any_common_encoding_is_read(folder, encoding):
    (folder / "cafe.txt").write_bytes("The café opens at seven – daily.".encode(encoding))
    index = index_of(folder)
    index.update()
    assert "café opens at seven – daily" in index.search("café", 1)[0].text


def test_only_what_is_new_changed_or_gone_is_worked_on(folder):
    index = index_of(folder)
    first = index.update()
    assert (first.added, first.changed, first.removed, first.files) == (3, 0, 0, 3)
    again = index.update()
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    (folder / "new.txt").write_text("Otters hold hands.")
    (folder / "deep" / "er" / "cats.txt").write_text("Cats dream of mice.")
    (folder / "bees.html").unlink()
    third = index.update()
    assert (third.added, third.changed, third.removed, third.files) == (1, 1, 1, 3)
    assert index.search("otters", 1) and index.search("dream", 1)
    assert index.search("purr", 1) == [] and index.search("queen", 1) == []


def test_a_touched_file_with_the_same_content_is_not_indexed_again(folder):
    index = index_of(folder)
    index.update()
    os.utime(folder / "router.md", (1, 1))
    assert index.update().changed == 0


def test_an_index_is_there_after_a_restart_without_reading_anything(folder):
    index_of(folder).update()
    again = index_of(folder)
    assert again.search("cats", 1)
    assert again.update().added == 0


def test_an_open_index_sees_what_another_process_added(folder):
    reader = index_of(folder)
    reader.update()
    assert reader.search("otters", 1) == []
    (folder / "new.txt").write_text("Otters hold hands.")
    index_of(folder).update()
    assert reader.search("otters", 1)[0].path == "new.txt"


def test_hidden_files_other_types_and_links_out_of_the_folder_are_left_out(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("Zebras are striped.")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / ".hidden.txt").write_text("Zebras are striped.")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.txt").write_text("Zebras are striped.")
    (folder / "zebra.bin").write_text("Zebras are striped.")
    index = index_of(folder)
    assert index.update().files == 3
    assert index.search("zebras", 1) == []


def test_an_empty_folder_finds_nothing(tmp_path):
    (tmp_path / "docs").mkdir()
    index = index_of(tmp_path / "docs")
    assert index.search("anything", 3) == []
    assert index.update().passages == 0
    assert index.search("anything", 3) == []


def test_one_file_can_be_the_documents(folder):
    index = Index(folder / "router.md", folder.parent / "index")
    assert index.update().files == 1
    assert index.search("reset", 1)[0].path == "router.md"


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(SearchError, match="nowhere"):
        Index(tmp_path / "nowhere", tmp_path / "index")


def test_a_running_server_sees_new_files(folder):
    provider = Documents(index_of(folder), refresh_s=0.0)
    (folder / "new.txt").write_text("Otters hold hands.")
    (hit, *_) = asyncio.run(provider.search("otters", 3, "", None))
    assert (hit.url, hit.rank, hit.provider) == ("new.txt", 0, "documents")


def test_a_server_says_once_what_it_cannot_read_and_what_is_missing(folder, tmp_path, caplog):
    (folder / "a.pdf").write_bytes(b"no pdf at all")
    provider = Documents(index_of(folder), refresh_s=0.0)
    asyncio.run(provider.search("otters", 3, "", None))
    (message,) = caplog.messages
    assert message.startswith("a.pdf is left out: it is no PDF that can be read")
    (tmp_path / "nothing").mkdir()
    Documents(Index(tmp_path / "nothing", tmp_path / "index"), refresh_s=0.0)
    assert "nothing holds no documents" in caplog.messages[1]


WORKER = """
import sys
from pathlib import Path
from resonance.retrieval.index import Index
Index(Path(sys.argv[1]), Path(sys.argv[2])).update()
"""


def start_update(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(folder.parent / "index")], cwd=Path(__file__).parents[3]
    )


def test_a_killed_update_leaves_the_index_whole(folder):
    index = index_of(folder)
    index.update()
    for number in range(1200):
        (folder / f"n{number}.txt").write_text(f"Otter number {number} holds hands. " * 40)
    log = index.folder / "passages.sqlite-wal"
    for delay in (0.0, 0.05, 0.2):
        with contextlib.closing(sqlite3.connect(index.folder / "passages.sqlite")) as reader:
            reader.execute("SELECT count(*) FROM files").fetchone()  # an open reader keeps the log in place
            before = log.stat().st_size
            process = start_update(folder)
            while process.poll() is None and log.stat().st_size == before:
                time.sleep(0.005)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert index.search("cats", 1)[0].path == "deep/er/cats.txt"
        if found := len(index.search("otter", 10_000)):
            break  # a fast machine is done before the kill
    index.update()
    assert index.search("otter 1199", 1)[0].path == "n1199.txt"
    assert found in (0, len(index.search("otter", 10_000)))  # all or nothing, never a part


def test_two_processes_may_update_at_the_same_time(folder):
    for number in range(100):
        (folder / f"n{number}.txt").write_text(f"Otter number {number} holds hands.")
    processes = [start_update(folder) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    index = index_of(folder)
    assert index.update().added == 0
    assert len(index.search("otter", 200)) == 100


def test_the_command_indexes_and_says_what_it_did(folder, tmp_path, capsys):
    arguments = [f"path={folder}", f"index={tmp_path / 'index'}"]
    main(arguments)
    assert "3 files" in capsys.readouterr().out
    (folder / "new.txt").write_text("Otters hold hands.")
    main([*arguments, "query=otters"])
    said = capsys.readouterr().out
    assert "1 new" in said and "Otters hold hands." in said


def test_the_chat_answers_from_documents_without_a_network(folder):
    built = build_retriever("documents", path=str(folder), index=str(folder.parent / "index"))
    assert built is not None and built.provider == "documents"
    found = asyncio.run(
        built.retrieve(
            [Message("user", "How do I reset the router?")],
            budget_tokens=200,
            count_tokens=lambda text: len(text.split()),
        )
    )
    assert found.context.startswith("[1] Router: Reset (router.md): Hold the button for ten seconds.")
    assert found.reason and found.note is None


def test_with_a_damaged_index_the_chat_goes_on_and_says_so(folder):
    built = build_retriever("documents", path=str(folder), index=str(folder.parent / "index"))
    assert built is not None
    (index,) = (folder.parent / "index").iterdir()
    for file in index.glob("passages.sqlite*"):
        file.write_bytes(b"no database at all " * 1000)
    found = asyncio.run(
        built.retrieve([Message("user", "How do I reset the router?")], budget_tokens=200, count_tokens=len)
    )
    assert (found.sources, found.note) == ((), "The search failed; this answer goes on without sources.")
    again = index_of(folder)
    assert again.update().added == 3  # and the next update makes it anew
    assert again.search("reset router", 1)


def test_a_folder_that_can_hold_no_index_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SearchError, match="file cannot hold an index"):
        Index(folder, tmp_path / "file")
