"""One file over HTTP, whole and verified: a transfer resumes where it stopped and retries failures that may pass.

It knows URLs, bytes and hashes, not the file's content. `NAME.partial` holds the bytes so far, `NAME.partial.json`
the size and hashes that the server announced, which tell a later run whether it may resume.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import shutil
from collections.abc import Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

import httpx
import stamina

from resonance.weights.state_dict import WeightsError

PROGRESS = 1 << 20  # bytes; a connection that breaks after so many new ones does not count as a failed attempt
LONGEST_WAIT = 120.0  # seconds; a server that asks for a longer wait ends the transfer
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which waits a transfer is attempted again; times in seconds."""

    attempts: int = 6
    stall_timeout: float = 30.0
    wait_initial: float = 0.5
    wait_max: float = 30.0


@dataclass(frozen=True, slots=True)
class TransferredFile:
    """A file that is whole on disk."""

    size: int
    sha256: str
    revision: str | None


class ProgressListener(Protocol):
    """Receives a transfer's events."""

    def progress(self, file: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of a file are on disk."""
        ...

    def retrying(self, file: str, reason: str) -> None:
        """An attempt failed; another one follows after a pause."""
        ...


class TransientError(Exception):
    """A failure that another attempt may not meet; `wait` is the server's Retry-After in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What a server announces about a whole file: size in bytes, hashes by algorithm, version.

    Hugging Face's Hub answers for a large file with a redirect that carries its size and SHA-256 (`X-Linked-*`), and
    for a small one with Git's hash of it as ETag. Azure, where OpenAI's files are, sends an MD5.
    """

    size: int | None
    digests: dict[str, str]  # hex, by `sha256`, `md5` or `git-sha1`
    etag: str | None  # of the server that sends the bytes
    revision: str | None  # the Hub's commit

    @classmethod
    def from_response(cls, response: httpx.Response) -> "RemoteFile":
        """Read the headers of a response and of the redirects before it; the first server's values win."""
        headers = {
            name: hop.headers[name]
            for hop in (response, *reversed(response.history))
            for name in ("X-Linked-ETag", "X-Linked-Size", "X-Repo-Commit")
            if name in hop.headers
        }
        etag = response.headers.get("ETag")
        size = headers.get("X-Linked-Size") or _whole_size(response)
        return cls(
            int(size) if size.isdigit() else None,
            _etag_digest(headers.get("X-Linked-ETag") or etag or "") | _md5(response),
            etag,
            headers.get("X-Repo-Commit"),
        )

    def matches(self, other: "RemoteFile") -> bool:
        """Whether bytes of one may continue bytes of the other: no value that both have differs."""
        pairs = [(self.size, other.size), (self.etag, other.etag)]
        pairs += [(self.digests[name], other.digests[name]) for name in self.digests.keys() & other.digests]
        return all(one == two for one, two in pairs if one is not None and two is not None)


def hash_file(path: Path, algorithms: Set[str]) -> dict[str, str]:
    """Compute hex digests of a file in one pass: `sha256`, `md5`, or `git-sha1` (Git's name of a blob)."""
    hashes = {name: hashlib.new(name.removeprefix("git-"), usedforsecurity=False) for name in algorithms}
    if "git-sha1" in hashes:
        hashes["git-sha1"].update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for each in hashes.values():
                each.update(chunk)
    return {name: each.hexdigest() for name, each in hashes.items()}


class Transfer:
    """The download of one URL to a path."""

    def __init__(
        self, client: httpx.Client, url: str, path: Path, policy: RetryPolicy, listener: ProgressListener
    ) -> None:
        self._client, self._url, self._path, self._policy, self._listener = client, url, path, policy, listener
        self._partial = path.with_name(path.name + ".partial")
        self._record = path.with_name(path.name + ".partial.json")
        self._failures = 0
        self._farthest = self._partial_size()  # bytes; only more than these are progress
        self._damaged = False

    def run(self) -> TransferredFile:
        """Download the file, which appears under its name once it is whole and its announced size and hash are right.

        Raises WeightsError, in one sentence, when the server refuses, cannot be reached, or sends wrong bytes; the
        bytes so far are kept for the next run unless they are wrong.
        """
        policy = self._policy
        try:
            for attempt in stamina.retry_context(
                on=self._is_retried,
                attempts=policy.attempts,
                timeout=None,
                wait_initial=policy.wait_initial,
                wait_max=policy.wait_max,
                wait_jitter=policy.wait_initial,
            ):
                with attempt:
                    return self._attempt()
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise WeightsError(f"{self._url} cannot be fetched ({error}); check base_url.") from None
        except (TransientError, httpx.TransportError) as error:
            size = self._partial_size()
            kept = f"; {size:,} bytes are kept, run the command again to go on" if size else ""
            raise WeightsError(
                f"{self._url} could not be fetched in {policy.attempts} attempts ({self._reason(error)}){kept}."
            ) from None
        except httpx.RequestError as error:
            raise WeightsError(f"{self._url} cannot be fetched: {error}.") from None
        except OSError as error:
            raise WeightsError(f"{self._partial} cannot be written: {error.strerror or error}.") from None
        raise AssertionError("stamina ends in a result or an exception")

    def _is_retried(self, error: Exception) -> bool | float:
        if not isinstance(error, TransientError | httpx.TransportError) or isinstance(error, httpx.UnsupportedProtocol):
            return False
        self._failures += 1
        if self._failures < self._policy.attempts:
            self._listener.retrying(self._path.name, self._reason(error))
        return error.wait if isinstance(error, TransientError) and error.wait is not None else True

    def _reason(self, error: Exception) -> str:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
                return f"no connection to {httpx.URL(self._url).host}: {error or 'timed out'}; check the network"
            case httpx.TimeoutException():
                return f"nothing arrived for {self._policy.stall_timeout:g} s"
            case httpx.TransportError():
                return f"the connection broke off after {self._partial_size():,} bytes"
            case _:
                return str(error)

    def _attempt(self) -> TransferredFile:
        while True:
            try:
                announced = self._request()
            except httpx.TransportError:
                if (size := self._partial_size()) < self._farthest + PROGRESS:
                    raise
                self._farthest = size
                continue
            return self._finish(announced)

    def _request(self) -> RemoteFile:
        """Send one request and append its body to the partial file; return once that is whole."""
        previous, size = self._read_record(), self._partial_size()
        if previous is not None and previous.size == size:
            return previous
        headers = {"Accept-Encoding": "identity"}
        if previous is not None and size:
            headers["Range"] = f"bytes={size}-"
            if previous.etag and not previous.etag.startswith("W/"):
                headers["If-Range"] = previous.etag
        with self._client.stream("GET", self._url, headers=headers) as response:
            self._check_status(response)
            announced = RemoteFile.from_response(response)
            start = 0
            if response.status_code == 206:
                if previous is None or not announced.matches(previous) or not _starts_at(response, size):
                    self._discard()
                    raise TransientError("the file on the server is another one by now; starting again")
                announced, start = previous, size
            self._check_disk_space(announced, start)
            if start == 0:
                self._partial.write_bytes(b"")
                self._record.write_text(json.dumps(asdict(announced)))
            with self._partial.open("ab") as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    self._listener.progress(self._path.name, file.tell(), announced.size)
        return announced

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        answer = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status in RETRIED_STATUSES:
            wait = _retry_after(response)
            if wait is not None and wait > LONGEST_WAIT:
                raise WeightsError(f"{self._url}: {answer} and asks to wait {wait:,.0f} s; try again then.")
            raise TransientError(answer, wait)
        if status == 416:  # the partial file is longer than the server's
            self._discard()
            raise TransientError(answer + "; starting again")
        if status == 404:
            raise WeightsError(f"{self._url} does not exist ({answer}); check name, source and base_url.")
        if status not in (200, 206):
            raise WeightsError(f"{self._url} cannot be fetched: {answer}.")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise WeightsError(f"{self._url} is sent compressed, although the request accepts no compression.")

    def _check_disk_space(self, announced: RemoteFile, start: int) -> None:
        needed = (announced.size or 0) - start
        free = shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise WeightsError(
                f"{self._path.name} needs {needed / 1e9:,.1f} GB more, and {self._path.parent} has "
                f"{free / 1e9:,.1f} GB free; make room, or set RESONANCE_HOME to another disk."
            )

    def _finish(self, announced: RemoteFile) -> TransferredFile:
        """Verify the partial file and rename it."""
        size = self._partial_size()
        if announced.size is not None and size != announced.size:
            if size > announced.size:
                self._discard()
            raise TransientError(f"{size:,} bytes arrived and {announced.size:,} were announced")
        found = hash_file(self._partial, {"sha256", *announced.digests})
        for algorithm, digest in announced.digests.items():
            if found[algorithm] != digest:
                self._discard()
                reason = f"its {algorithm} is {found[algorithm]}, and {digest} was announced"
                if self._damaged:
                    raise WeightsError(f"{self._url} arrived damaged twice ({reason}); it was thrown away.")
                self._damaged = True
                raise TransientError(reason)
        with self._partial.open("rb+") as file:
            os.fsync(file.fileno())
        self._partial.replace(self._path)
        self._record.unlink(missing_ok=True)
        return TransferredFile(size, found["sha256"], announced.revision)

    def _partial_size(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _read_record(self) -> RemoteFile | None:
        try:
            return RemoteFile(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _discard(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self._farthest = 0


def _starts_at(response: httpx.Response, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait; None where it does not say."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None


def _whole_size(response: httpx.Response) -> str:
    if response.status_code == 206:
        return response.headers.get("Content-Range", "").rpartition("/")[2]
    return response.headers.get("Content-Length", "")


def _etag_digest(etag: str) -> dict[str, str]:
    digest = etag.removeprefix("W/").strip('"').lower()
    for algorithm, digits in (("sha256", 64), ("git-sha1", 40)):
        if re.fullmatch(f"[0-9a-f]{{{digits}}}", digest):
            return {algorithm: digest}
    return {}


def _md5(response: httpx.Response) -> dict[str, str]:
    header = "Content-MD5" if response.status_code == 200 else "x-ms-blob-content-md5"
    try:
        digest = base64.b64decode(response.headers.get(header, ""), validate=True)
    except binascii.Error:
        return {}
    return {"md5": digest.hex()} if len(digest) == 16 else {}
