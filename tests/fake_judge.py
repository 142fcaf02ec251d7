"""A server of OpenAI's chat protocol that judges by rule, and fails as it is told to."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = tuple[int, dict[str, str], str]  # status, headers, body


def longest(prompt: str) -> str:
    """Grades an answer by its length, and prefers the longer of two."""
    first, second = (re.search(rf"\[answer {name}\]\n(.*?)\n\[end", prompt, re.DOTALL) for name in "AB")
    if first and second:
        lead = len(first[1]) - len(second[1])
        return "A" if lead > 0 else "B" if lead < 0 else "TIE"
    answer = re.search(r"\[answer\]\n(.*?)\n\[end", prompt, re.DOTALL)
    assert answer, prompt
    return str(10 * len(answer[1]))


class FakeJudge:
    """Replies by `rule` after `faults`, one a request; after `dies_after` requests it closes every connection.

    `requests` holds the requests' bodies, `headers` their headers, `times` when they came.
    """

    def __init__(self, rule: Callable[[str], Any] = longest) -> None:
        self.rule = rule
        self.faults: list[Fault] = []
        self.delay = 0.0
        self.finish_reason = "stop"
        self.dies_after: int | None = None  # requests
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    fake.requests.append(body)
                    fake.headers.append(dict(self.headers))
                    fake.times.append(time.monotonic())
                    fake.in_flight += 1
                    fake.most_in_flight = max(fake.most_in_flight, fake.in_flight)
                    fault = fake.faults.pop(0) if fake.faults else None
                    dead = fake.dies_after is not None and len(fake.requests) > fake.dies_after
                time.sleep(fake.delay)
                with fake._lock:
                    fake.in_flight -= 1
                if dead:
                    self.close_connection = True
                    return
                if self.path != "/v1/chat/completions":
                    fault = (404, {}, json.dumps({"error": {"message": f"no {self.path} here"}}))
                if fault is None:
                    fault = (
                        200,
                        {},
                        json.dumps(completion(fake.rule(body["messages"][0]["content"]), fake.finish_reason)),
                    )
                status, headers, text = fault
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def completion(content: object, finish_reason: str = "stop") -> dict[str, object]:
    return {
        "object": "chat.completion",
        "model": "rule-1-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 2},
    }


@contextlib.contextmanager
def fake_judge() -> Iterator[FakeJudge]:
    judge = FakeJudge()
    judge.serve()
    try:
        yield judge
    finally:
        judge.close()
