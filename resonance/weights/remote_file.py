"""What a server says about a file before it sends it: size, hashes, version; and whether a file is that.

Hugging Face's Hub answers for a large file with a redirect that bears its size and SHA-256 (`X-Linked-*`), and
for a small one with Git's hash of it as ETag. Azure, where OpenAI's files are, sends an MD5.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx


@dataclass(frozen=True, slots=True)
class Announced:
    """A whole file's size in bytes, its hashes by algorithm, and the server's own marks of its version."""

    size: int | None
    digests: dict[str, str]  # hex, by `sha256`, `md5` or `git-sha1`
    etag: str | None  # of the server that sends the bytes
    revision: str | None  # the Hub's commit

    @classmethod
    def by(cls, response: httpx.Response) -> "Announced":
        """What the headers of a response, and of the redirects before it, say; the first server's word counts."""
        marks = {
            name: hop.headers[name]
            for hop in (response, *reversed(response.history))
            for name in ("X-Linked-ETag", "X-Linked-Size", "X-Repo-Commit")
            if name in hop.headers
        }
        etag = response.headers.get("ETag")
        size = marks.get("X-Linked-Size") or _whole_size(response)
        return cls(
            int(size) if size.isdigit() else None,
            _digest(marks.get("X-Linked-ETag") or etag or "") | _md5(response),
            etag,
            marks.get("X-Repo-Commit"),
        )

    def fits(self, other: "Announced") -> bool:
        """Whether bytes of one may be joined to bytes of the other: nothing that both say differs."""
        sizes, etags = (self.size, other.size), (self.etag, other.etag)
        said_of_both = [*(pair for pair in (sizes, etags) if None not in pair)]
        said_of_both += [(self.digests[name], other.digests[name]) for name in self.digests.keys() & other.digests]
        return all(one == two for one, two in said_of_both)


def hash_file(path: Path, algorithms: Set[str]) -> dict[str, str]:
    """Hex digests of a file in one pass: `sha256`, `md5`, or `git-sha1` (Git's name of a blob)."""
    hashes = {name: hashlib.new(name.removeprefix("git-"), usedforsecurity=False) for name in algorithms}
    if "git-sha1" in hashes:
        hashes["git-sha1"].update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for each in hashes.values():
                each.update(chunk)
    return {name: each.hexdigest() for name, each in hashes.items()}


def starts_at(response: httpx.Response, start: int) -> bool:
    """Whether a partial answer begins at this byte."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def retry_after(response: httpx.Response) -> float | None:
    """How many seconds the server asks us to wait; None where it does not say."""
    said = response.headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None


def _whole_size(response: httpx.Response) -> str:
    if response.status_code == 206:
        return response.headers.get("Content-Range", "").rpartition("/")[2]
    return response.headers.get("Content-Length", "")


def _digest(etag: str) -> dict[str, str]:
    mark = etag.removeprefix("W/").strip('"').lower()
    for algorithm, digits in (("sha256", 64), ("git-sha1", 40)):
        if re.fullmatch(f"[0-9a-f]{{{digits}}}", mark):
            return {algorithm: mark}
    return {}


def _md5(response: httpx.Response) -> dict[str, str]:
    whole = "Content-MD5" if response.status_code == 200 else "x-ms-blob-content-md5"
    try:
        digest = base64.b64decode(response.headers.get(whole, ""), validate=True)
    except binascii.Error:
        return {}
    return {"md5": digest.hex()} if len(digest) == 16 else {}
