import base64
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from resonance.weights import WeightsError, resolve
from resonance.weights.download import download

from .file_server import (
    BIG,
    HUB,
    QUICK,
    Handler,
    RecordingListener,
    Server,
    assert_whole,
    breaks_off,
    etag,
    get,
    serve,
    stalls,
    status,
    wrong_bytes,
)


def test_a_broken_connection_goes_on_where_it_broke(server: Server, folder: Path):
    server.script[BIG] = [breaks_off(5000), breaks_off(3000)]
    events = get(server)
    tag = etag(server.files[BIG])
    assert [(r.range, r.if_range) for r in server.requests_for(BIG)] == [
        (None, None),
        ("bytes=5000-", tag),
        ("bytes=8000-", tag),
    ]
    assert events.retries == [f"model.safetensors: the connection broke off after {n:,} bytes" for n in (5000, 8000)]
    assert_whole(folder, server)


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server: Server, folder: Path):
    server.script[BIG] = [breaks_off(5000)] + [status(503)] * 3
    with pytest.raises(WeightsError, match=r"4 attempts \(the server answered 503.*5,000 bytes are kept, run .* again"):
        get(server)
    with pytest.raises(WeightsError, match="downloaded only in part"):
        resolve("gpt2")
    server.requests.clear()
    get(server)
    assert [(request.path, request.range) for request in server.requests] == [(BIG, "bytes=5000-")]
    assert_whole(folder, server)


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: Server, folder: Path):
    server.ignores_range = True
    server.script[BIG] = [breaks_off(5000)]
    get(server)
    assert [request.range for request in server.requests_for(BIG)] == [None, "bytes=5000-"]
    assert_whole(folder, server)


def test_a_server_that_ignores_ranges_and_always_breaks_off_is_given_up(server: Server, home: Path):
    server.ignores_range = True
    server.script[BIG] = [breaks_off(5000)] * 9
    with pytest.raises(WeightsError, match=r"4 attempts \(the connection broke off after 5,000 bytes\)"):
        get(server)
    assert len(server.requests_for(BIG)) == 4


def test_many_breaks_with_much_between_them_are_no_failures(server: Server, folder: Path):
    server.files[BIG] = server.files[BIG] + bytes(12 << 20)  # more than the header says: wrong as weights
    server.script[BIG] = [breaks_off(1 << 21)] * 6  # more breaks than attempts
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged"):
        get(server)
    assert (folder / "model.safetensors").read_bytes() == server.files[BIG]


def test_a_file_that_changed_on_the_server_is_begun_anew(server: Server, folder: Path, released: dict[str, bytes]):
    server.script[BIG] = [breaks_off(5000)] + [status(503)] * 3
    with pytest.raises(WeightsError):
        get(server)
    server.files[BIG] = released[BIG][:-4] + bytes(4)
    get(server)
    assert server.requests_for(BIG)[-1].range == "bytes=5000-"
    assert_whole(folder, server)


def test_without_version_marks_a_change_is_noticed_by_the_size(server: Server, folder: Path):
    server.silent_about_etags = True
    server.script[BIG] = [breaks_off(5000)] + [status(503)] * 3
    with pytest.raises(WeightsError):
        get(server)
    good = server.files[BIG]
    server.files[BIG] = good + b" " * 8
    with pytest.raises(WeightsError, match="damaged"):
        get(server)
    assert [request.range for request in server.requests_for(BIG)][-2:] == ["bytes=5000-", None]


def test_a_stalled_connection_is_given_up_and_resumed(server: Server, folder: Path):
    server.script[BIG] = [stalls(7000)]
    started_at = time.monotonic()
    events = get(server, policy=replace(QUICK, stall_timeout=2.0))
    assert events.retries == ["model.safetensors: nothing arrived for 2 s"]
    assert time.monotonic() - started_at < 60
    assert server.requests_for(BIG)[1].range == "bytes=7000-"
    assert_whole(folder, server)


def test_wrong_bytes_are_thrown_away_and_fetched_once_more(server: Server, folder: Path):
    server.script[BIG] = [wrong_bytes]
    events = get(server)
    assert "its sha256 is" in events.retries[0] and "was announced" in events.retries[0]
    assert [request.range for request in server.requests_for(BIG)] == [None, None]
    assert_whole(folder, server)


def test_wrong_bytes_twice_are_an_error_and_leave_nothing(server: Server, folder: Path):
    server.script[BIG] = [wrong_bytes, wrong_bytes]
    with pytest.raises(WeightsError, match=r"arrived damaged twice \(its sha256 is .* was announced\)"):
        get(server)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "download.json"]


def test_the_hubs_redirect_tells_hash_and_size_where_the_store_does_not(server: Server, folder: Path):
    store = "/store/blob"
    server.files[store] = server.files.pop(BIG)
    server.redirects[BIG] = store
    server.script[store] = [lambda handler, content: serve(handler, content[:-9] + b"x" * 9, tag='"opaque"')]
    server.script[store] += [breaks_off(4000)]
    events = get(server)
    assert len(events.retries) == 2 and "its sha256 is" in events.retries[0]
    assert [request.range for request in server.requests_for(store)] == [None, None, "bytes=4000-"]
    record = json.loads((folder / "download.json").read_text())["model.safetensors"]
    assert record["revision"] == "11c5a3d5811f50298f278a704980280950aedb10"


def test_gits_hash_of_a_small_file_is_checked(server: Server, folder: Path):
    path = f"{HUB}/config.json"
    content = server.files[path]
    tag = f'W/"{hashlib.sha1(b"blob %d" % len(content) + bytes(1) + content).hexdigest()}"'
    damaged = content.replace(b"gpt2", b"gpt3")
    server.script[path] = [lambda handler, _: serve(handler, damaged, tag=tag)]
    server.script[path] += [lambda handler, whole: serve(handler, whole, tag=tag)]
    assert "its git-sha1 is" in get(server).retries[0]


def test_azures_md5_is_checked(server: Server, folder: Path):
    path = "/gpt-2/models/124M/model.ckpt.data-00000-of-00001"

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-MD5", base64.b64encode(hashlib.md5(content).digest()).decode())
        handler.send_header("ETag", '"0x8D7FE0A2A1B2C3D"')
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:-1] + b"?")

    server.script[path] = [answer]
    assert "its md5 is" in get(server, "openai").retries[0]


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(server: Server, folder: Path, code: int):
    server.script[BIG] = [status(code, Retry_After="1")]
    get(server)
    first, second = server.requests_for(BIG)
    assert second.at - first.at >= 1.0
    assert_whole(folder, server)


def test_a_server_that_asks_to_wait_for_hours_is_not_waited_for(server: Server, home: Path):
    server.script[BIG] = [status(429, Retry_After="7200")]
    with pytest.raises(WeightsError, match=r"429 Too Many Requests and asks to wait 7,200 s; try again then"):
        get(server)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (404, r"model\.safetensors does not exist \(the server answered 404"),
        (403, r"model\.safetensors cannot be fetched: the server answered 403 Forbidden"),
        (401, r"cannot be fetched: the server answered 401"),
    ],
)
def test_a_refusal_is_told_at_once(server: Server, home: Path, code: int, message: str):
    server.script[BIG] = [status(code)]
    with pytest.raises(WeightsError, match=message):
        get(server)
    assert len(server.requests_for(BIG)) == 1


def test_a_partial_file_that_is_longer_than_the_whole_is_begun_anew(server: Server, folder: Path):
    server.script[BIG] = [breaks_off(5000)] + [status(503)] * 3
    with pytest.raises(WeightsError):
        get(server)
    with (folder / "model.safetensors.partial").open("ab") as file:
        file.write(bytes(len(server.files[BIG])))
    get(server)
    assert_whole(folder, server)


def test_a_partial_file_without_its_record_is_begun_anew(server: Server, folder: Path):
    folder.mkdir(parents=True)
    (folder / "model.safetensors.partial").write_bytes(b"whatever")
    get(server)
    assert [request.range for request in server.requests_for(BIG)] == [None]
    assert_whole(folder, server)


def test_a_file_larger_than_the_disk_is_not_begun(server: Server, folder: Path):
    server.script[BIG] = [lambda handler, content: serve(handler, content, size=10**17)]
    with pytest.raises(WeightsError, match=r"needs 100,000,000\.0 GB more, .* GB free; make room"):
        get(server)
    assert not (folder / "model.safetensors.partial").exists()


def test_without_a_server_the_error_is_one_honest_sentence(home: Path):
    with pytest.raises(
        WeightsError, match=r"could not be fetched in 4 attempts \(no connection to 127\.0\.0\.1: .*check the network\)"
    ):
        download("gpt2", "huggingface", QUICK, RecordingListener(), "http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "nonsense", "http://127.0.0.1:port"])
def test_a_base_url_that_is_none_is_refused_at_once(home: Path, url: str):
    events = RecordingListener()
    with pytest.raises(WeightsError, match=r"cannot be fetched \(.*\); check base_url"):
        download("gpt2", "huggingface", QUICK, events, url)
    assert events.retries == []
