"""Clients of a completions API, each of which streams one answer and records when its first token arrives.

It reads raw sockets and parses no JSON, because it shares the processors with the server.
"""

import asyncio
import json
import re
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

HOST = "127.0.0.1"
FINISHED_BY_LENGTH = re.compile(rb'"finish_reason": ?"length"')
TAIL = 4096  # bytes of an answer's end that are kept for its finish reason


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the requests were sent, all at the same moment."""

    first_tokens: list[float]  # to the first token of each answer
    total: float  # to the end of the last answer


class WrongAnswer(Exception):
    """An answer that is not a text of the requested length."""


def stream_completions(port: int, requests: Sequence[Mapping[str, object]]) -> Timings:
    """Send all requests at once and read their streams to the end. Raises WrongAnswer and OSError."""

    async def gather() -> Timings:
        started_at = time.perf_counter()
        first_tokens = await asyncio.gather(*(_stream(port, request, started_at) for request in requests))
        return Timings(first_tokens, time.perf_counter() - started_at)

    return asyncio.run(gather())


async def _stream(port: int, request: Mapping[str, object], started_at: float) -> float:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(_http_request("POST", "/v1/completions", json.dumps(request).encode()))
        tail, first_token = b"", None
        while part := await reader.read(65536):
            tail = tail[-TAIL:] + part
            if first_token is None and b"\ndata: " in tail:
                first_token = time.perf_counter() - started_at
    finally:
        writer.close()
    if first_token is None or not FINISHED_BY_LENGTH.search(tail):
        raise WrongAnswer(f"The server's answer ends {tail[-300:].decode(errors='replace')!r}.")
    return first_token


def is_up(port: int, path: str) -> bool:
    """Whether a server answers `path` with status 200."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(_http_request("GET", path))
        return connection.recv(16).startswith(b"HTTP/1.1 200")
    return False


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _http_request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
