"""A server of files that behaves as scripted, and a download from it."""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from resonance.model import GPT2Config
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
        headers = self.headers
        state.requests.append(
            Request(self.path, headers["Range"], headers["If-Range"], time.monotonic(), headers["Authorization"])
        )
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


def get(server: Server, source: str = "huggingface", policy: RetryPolicy = QUICK) -> RecordingListener:
    events = RecordingListener()
    download("gpt2", source, policy, events, server.url)
    return events


def assert_whole(folder: Path, server: Server) -> None:
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == server.files[f"{HUB}/{name}"]
    assert not list(folder.glob("*.partial*"))
