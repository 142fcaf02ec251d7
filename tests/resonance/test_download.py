import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants, hf_hub_download

from resonance.checkpoint import Checkpoint
from resonance.cli.weights import main
from resonance.model import GPT2, GPT2Config
from resonance.weights import WeightsError, huggingface, openai, read, resolve
from resonance.weights.download import download
from resonance.weights.transfer import RetryPolicy

TINY = GPT2Config(vocab_size=97, context_length=24, n_layer=2, n_head=2, n_embd=16)
HUB = "/openai-community/gpt2/resolve/main"
BIG = f"{HUB}/model.safetensors"
COMMIT = "11c5a3d5811f50298f278a704980280950aedb10"
QUICK = RetryPolicy(attempts=4, stall_timeout=30.0, wait_initial=0.01, wait_max=0.05)


@dataclass
class Request:
    path: str
    range: str | None
    if_range: str | None
    at: float
    authorization: str | None


Answer = Callable[["Handler", bytes], None]


@dataclass
class Server:
    """A server of files, whose answers to the next requests for a path can be scripted."""

    files: dict[str, bytes] = field(default_factory=dict)
    script: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    ignores_range: bool = False
    silent_about_etags: bool = False
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def requests_for(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        headers = (self.headers[name] for name in ("Range", "If-Range"))
        state.requests.append(Request(self.path, *headers, time.monotonic(), self.headers["Authorization"]))
        if state.script[self.path]:
            state.script[self.path].pop(0)(self, state.files.get(self.path, b""))
        elif self.path in state.redirects:
            redirect(self, b"")
        elif self.path in state.files:
            serve(self, state.files[self.path])
        else:
            status(404)(self, b"")

    def do_HEAD(self) -> None:
        content = self.server_state.files[self.path]
        self.send_response(200)
        self.send_header("ETag", etag(content))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def serve(handler: Handler, content: bytes, *, tag: str | None = None, size: int | None = None) -> None:
    state, byte_range, start = handler.server_state, handler.headers["Range"], 0
    tag = tag or etag(content)
    if byte_range and not state.ignores_range and handler.headers["If-Range"] in (None, tag):
        start = int(byte_range.removeprefix("bytes=").split("-")[0])
        if start >= len(content):
            status(416)(handler, b"")
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    if not state.silent_about_etags:
        handler.send_header("ETag", tag)
    handler.send_header("Content-Length", str(size or len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])


def redirect(handler: Handler, content: bytes) -> None:
    target = handler.server_state.redirects[handler.path]
    linked = handler.server_state.files[target]
    handler.send_response(302)
    handler.send_header("Location", target)
    handler.send_header("X-Linked-ETag", etag(linked))
    handler.send_header("X-Linked-Size", str(len(linked)))
    handler.send_header("X-Repo-Commit", COMMIT)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def breaks_off(after: int) -> Answer:
    """Announce the whole requested range, send so many bytes of it, and close the connection."""

    def answer(handler: Handler, content: bytes) -> None:
        start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
        start = 0 if handler.server_state.ignores_range else start
        serve(handler, content[: start + after], tag=etag(content), size=len(content) - start) if not start else (
            partial(handler, content, start, after)
        )
        handler.close_connection = True

    return answer


def partial(handler: Handler, content: bytes, start: int, length: int) -> None:
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("ETag", etag(content))
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start : start + length])


def stalls(after: int) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        serve(handler, content[:after], tag=etag(content), size=len(content))
        handler.wfile.flush()
        handler.server_state.closing.wait(120)
        handler.close_connection = True

    return answer


def wrong_bytes(handler: Handler, content: bytes) -> None:
    serve(handler, content[:-9] + b"x" * 9, tag=etag(content))


class RecordingListener:
    """Keeps a transfer's events."""

    def __init__(self) -> None:
        self.retries: list[str] = []
        self.seen: list[tuple[str, int, int | None]] = []

    def progress(self, file: str, done: int, total: int | None) -> None:
        self.seen.append((file, done, total))

    def retrying(self, file: str, reason: str) -> None:
        self.retries.append(f"{file}: {reason}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))  # of this process
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # of its children
    return tmp_path / "home"


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small model in both layouts, by the paths under which the real ones are served."""
    torch.manual_seed(5)
    state = GPT2(TINY).state_dict()
    hub, azure = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("azure")
    huggingface.write(hub, TINY, state)
    openai.write(azure, TINY, state)
    files = {f"{HUB}/{path.name}": path.read_bytes() for path in hub.iterdir()}
    return files | {f"/gpt-2/models/124M/{path.name}": path.read_bytes() for path in azure.iterdir()}


@pytest.fixture
def server(released: dict[str, bytes]) -> Iterator[Server]:
    state = Server(files=dict(released))
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": state}))
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.closing.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "weights" / "gpt2"


def get(server: Server, source: str = "huggingface", policy: RetryPolicy = QUICK) -> RecordingListener:
    events = RecordingListener()
    download("gpt2", source, policy, events, server.url)
    return events


def assert_whole(folder: Path, server: Server) -> None:
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == server.files[f"{HUB}/{name}"]
    assert not list(folder.glob("*.partial*"))


@pytest.mark.parametrize("source", ["huggingface", "openai"])
def test_a_download_is_found_by_its_name_and_read(server: Server, home: Path, source: str):
    events = get(server, source)
    assert resolve("gpt2") == home / "weights" / "gpt2"
    config, state = read(resolve("gpt2"))
    assert config == TINY and len(state) == 28
    assert events.retries == []
    assert {file: done for file, done, total in events.seen if done == total} == {
        path.name: path.stat().st_size for path in (home / "weights" / "gpt2").iterdir() if path.name != "download.json"
    }


def test_what_arrived_is_recorded_with_its_hash(server: Server, folder: Path):
    get(server)
    record = json.loads((folder / "download.json").read_text())["model.safetensors"]
    content = server.files[BIG]
    assert record["size"] == len(content)
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["url"] == server.url + BIG


def test_a_second_download_asks_the_server_for_nothing(server: Server, folder: Path):
    get(server)
    server.requests.clear()
    get(server)
    assert server.requests == []


def test_only_a_file_that_was_changed_on_disk_is_fetched_again(server: Server, folder: Path):
    get(server)
    server.requests.clear()
    content = bytearray(server.files[BIG])
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    get(server)
    assert [request.path for request in server.requests] == [BIG]
    assert_whole(folder, server)


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


def test_openais_files_are_verified_by_their_own_checksums(server: Server, folder: Path):
    server.silent_about_etags = True
    path = "/gpt-2/models/124M/model.ckpt.data-00000-of-00001"
    server.files[path] = server.files[path][:-1] + bytes([server.files[path][-1] ^ 1])
    with pytest.raises(WeightsError, match=r"model/wte in .* is damaged: its checksum is wrong"):
        get(server, "openai")


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


def test_two_downloads_of_one_model_do_not_meet(server: Server, home: Path):
    (home / "weights").mkdir(parents=True)
    with (
        FileLock(home / "weights" / ".gpt2.lock"),
        pytest.raises(WeightsError, match="gpt2 is being downloaded by another process"),
    ):
        get(server)
    get(server)


def test_an_unknown_model_or_source_lists_the_known_ones(home: Path):
    with pytest.raises(WeightsError, match=r"named 'gpt5'; there are gpt2, gpt2-medium"):
        download("gpt5", "huggingface", QUICK, RecordingListener())
    with pytest.raises(WeightsError, match=r"no source 'torrent'; there are huggingface, openai"):
        download("gpt2", "torrent", QUICK, RecordingListener())


def test_a_home_that_cannot_be_written_is_named(server: Server, home: Path):
    home.write_text("a file, where a folder should be")
    with pytest.raises(WeightsError, match=r"home/weights/gpt2 cannot be written"):
        get(server)


def test_the_command_prints_the_folder_alone_on_standard_output(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
):
    server.script[BIG] = [status(503)]
    main(["name=gpt2", f"base_url={server.url}", "wait_initial=0.01"])
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert "the server answered 503 Service Unavailable; trying again" in err
    assert f"{sum(v.numel() for v in GPT2(TINY).parameters()):,} parameters" in err


def test_the_command_line_fails_with_one_line_and_exit_code_2(server: Server, home: Path):
    server.script[BIG] = [status(404)]
    command = [sys.executable, "-m", "resonance.cli", "weights", "gpt2", f"base_url={server.url}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ") and "does not exist" in done.stderr


def test_the_command_without_a_name_says_which_there_are(home: Path):
    with pytest.raises(WeightsError, match=r"resonance weights NAME, one of gpt2, gpt2-medium"):
        main([])


def fill_hub_cache(server: Server) -> Path:
    """Download the model as other programs do, with huggingface_hub; return its folder."""
    for file in ("config.json", "model.safetensors"):
        path = hf_hub_download("openai-community/gpt2", file, endpoint=server.url)
    server.requests.clear()
    return Path(path).parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resonance.cli", "weights", "gpt2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_a_model_in_the_hubs_cache_is_loaded_by_its_name_without_a_download(server: Server, home: Path):
    with pytest.raises(WeightsError, match="gpt2 is not downloaded"):
        resolve("gpt2")
    snapshot = fill_hub_cache(server)
    assert GPT2.from_pretrained("gpt2").config == TINY
    assert Checkpoint.find("gpt2").name == "gpt2"
    assert run(HF_ENDPOINT=server.url).stdout == f"{snapshot}\n"
    assert server.requests == [] and not home.exists()


def test_weights_that_were_damaged_in_the_hubs_cache_are_downloaded(server: Server, folder: Path):
    blob = (fill_hub_cache(server) / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    get(server)
    assert_whole(folder, server)


def test_the_hubs_endpoint_and_token_are_those_of_its_own_library(server: Server, folder: Path):
    done = run(HF_ENDPOINT=server.url, HF_TOKEN="hf_secret")
    assert done.stdout == f"{folder}\n"
    assert {request.authorization for request in server.requests} == {"Bearer hf_secret"}
    assert_whole(folder, server)


def test_a_mirror_does_not_get_the_hubs_token(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(server)
    assert {request.authorization for request in server.requests} == {None}


def test_offline_mode_is_one_sentence_and_exit_code_2(server: Server, home: Path):
    done = run(HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and server.requests == []
    assert done.stderr == (
        f"Error: gpt2 is not in the Hugging Face Hub's cache ({home.parent}/hf/hub), "
        "and HF_HUB_OFFLINE forbids its download.\n"
    )
