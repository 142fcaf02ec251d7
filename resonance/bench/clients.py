"""Clients of a completions API that each stream an answer at the same time, and note when its first token came.

One light program that reads raw sockets, the same for every server, since it shares the processors with them. It
knows HTTP, and nothing of models.
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
CUT_AT_LENGTH = re.compile(rb'"finish_reason": ?"length"')
TAIL = 4096  # bytes of an answer that are kept to see how it ended


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of requests that were made at the same moment, in seconds from then on."""

    first: list[float]  # until each answer's first token
    last: float  # until everything had come


class WrongAnswer(Exception):
    """A server answered something else than a text of the length that was asked for."""


def ask(port: int, bodies: Sequence[Mapping[str, object]]) -> Answers:
    """Send all requests at once and read their streams to the end. Raises WrongAnswer and OSError."""

    async def all_of_them() -> Answers:
        began = time.perf_counter()
        first = await asyncio.gather(*(_stream(port, body, began) for body in bodies))
        return Answers(first, time.perf_counter() - began)

    return asyncio.run(all_of_them())


async def _stream(port: int, body: Mapping[str, object], began: float) -> float:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(_request("POST", "/v1/completions", json.dumps(body).encode()))
        told, first = b"", None
        while part := await reader.read(65536):
            told = told[-TAIL:] + part
            if first is None and b"\ndata: " in told:
                first = time.perf_counter() - began
    finally:
        writer.close()
    if first is None or not CUT_AT_LENGTH.search(told):
        raise WrongAnswer(f"The server's answer ends {told[-300:].decode(errors='replace')!r}.")
    return first


def is_up(port: int, path: str) -> bool:
    """Whether a server gives `path` with status 200."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(_request("GET", path))
        return connection.recv(16).startswith(b"HTTP/1.1 200")
    return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
