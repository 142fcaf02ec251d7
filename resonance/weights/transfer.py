"""One file over HTTP, whole and verified: it goes on where it stopped, and waits and tries again where that helps.

It knows URLs, bytes and hashes, not what the file is. `NAME.partial` holds what has arrived, `NAME.partial.json`
what the server said the whole is, so that a later run can tell whether it may go on.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import httpx
import stamina

from resonance.weights.remote_file import Announced, hash_file, retry_after, starts_at
from resonance.weights.state_dict import WeightsError

HEADROOM = 1 << 20  # a break-off after this many new bytes does not count as a failed attempt
LONGEST_WAIT = 120.0  # seconds that a server may ask us to wait before we rather give up
WAITED_FOR = (408, 429, 500, 502, 503, 504)  # answers that may be another one in a moment


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a transfer is; times in seconds."""

    attempts: int = 6
    stall_timeout: float = 30.0
    wait_initial: float = 0.5
    wait_max: float = 30.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has arrived whole."""

    size: int
    sha256: str
    revision: str | None


class Watcher(Protocol):
    """Whoever is told how a transfer goes."""

    def progress(self, file: str, done: int, total: int | None) -> None:
        """So many bytes of a file are here."""
        ...

    def retrying(self, file: str, reason: str) -> None:
        """An attempt failed, and another one follows after a pause."""
        ...


class Transient(Exception):
    """A failure that another attempt may not meet; `wait` is how long the server asked us to wait."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(client: httpx.Client, url: str, path: Path, policy: Policy, watch: Watcher) -> Fetched:
    """Bring `url` to `path`, which appears only once it is whole and its announced size and hash are right.

    Raises WeightsError, in one sentence, when the server refuses, stays away, or sends wrong bytes; what has
    arrived is kept for the next time unless it is wrong.
    """
    return _Transfer(client, url, path, policy, watch).run()


class _Transfer:
    def __init__(self, client: httpx.Client, url: str, path: Path, policy: Policy, watch: Watcher) -> None:
        self._client, self._url, self._path, self._policy, self._watch = client, url, path, policy, watch
        self._partial = path.with_name(path.name + ".partial")
        self._record = path.with_name(path.name + ".partial.json")
        self._failures = 0
        self._farthest = self._here()  # bytes; only getting beyond it is progress
        self._damaged = False

    def run(self) -> Fetched:
        policy = self._policy
        try:
            for attempt in stamina.retry_context(
                on=self._worth_retrying,
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
        except (Transient, httpx.TransportError) as error:
            kept = f"; {self._here():,} bytes are kept, run the command again to go on" if self._here() else ""
            raise WeightsError(
                f"{self._url} could not be fetched in {policy.attempts} attempts ({self._reason(error)}){kept}."
            ) from None
        except httpx.RequestError as error:
            raise WeightsError(f"{self._url} cannot be fetched: {error}.") from None
        except OSError as error:
            raise WeightsError(f"{self._partial} cannot be written: {error.strerror or error}.") from None
        raise AssertionError("stamina ends in a result or an exception")

    def _worth_retrying(self, error: Exception) -> bool | float:
        if not isinstance(error, Transient | httpx.TransportError) or isinstance(error, httpx.UnsupportedProtocol):
            return False
        self._failures += 1
        if self._failures < self._policy.attempts:
            self._watch.retrying(self._path.name, self._reason(error))
        return error.wait if isinstance(error, Transient) and error.wait is not None else True

    def _reason(self, error: Exception) -> str:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
                return f"no connection to {httpx.URL(self._url).host}: {error or 'timed out'}; check the network"
            case httpx.TimeoutException():
                return f"nothing arrived for {self._policy.stall_timeout:g} s"
            case httpx.TransportError():
                return f"the connection broke off after {self._here():,} bytes"
            case _:
                return str(error)

    def _attempt(self) -> Fetched:
        while True:
            try:
                announced = self._pull()
            except httpx.TransportError:
                if (here := self._here()) < self._farthest + HEADROOM:
                    raise
                self._farthest = here
                continue
            return self._finish(announced)

    def _pull(self) -> Announced:
        """One request: append what it brings to the partial file. Returns once all of it is there."""
        begun, here = self._begun(), self._here()
        if begun is not None and begun.size == here:
            return begun
        headers = {"Accept-Encoding": "identity"}
        if begun is not None and here:
            headers["Range"] = f"bytes={here}-"
            if begun.etag and not begun.etag.startswith("W/"):
                headers["If-Range"] = begun.etag
        with self._client.stream("GET", self._url, headers=headers) as response:
            self._refuse_errors(response)
            announced = Announced.by(response)
            start = 0
            if response.status_code == 206:
                if begun is None or not announced.fits(begun) or not starts_at(response, here):
                    self._discard()
                    raise Transient("the file on the server is another one by now; starting again")
                announced, start = begun, here
            self._need_room(announced, start)
            if start == 0:
                self._partial.write_bytes(b"")
                self._record.write_text(json.dumps(asdict(announced)))
            with self._partial.open("ab") as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    self._watch.progress(self._path.name, file.tell(), announced.size)
        return announced

    def _refuse_errors(self, response: httpx.Response) -> None:
        status = response.status_code
        said = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status in WAITED_FOR:
            wait = retry_after(response)
            if wait is not None and wait > LONGEST_WAIT:
                raise WeightsError(f"{self._url}: {said} and asks to wait {wait:,.0f} s; try again then.")
            raise Transient(said, wait)
        if status == 416:  # what is here is no beginning of what is there
            self._discard()
            raise Transient(said + "; starting again")
        if status == 404:
            raise WeightsError(f"{self._url} does not exist ({said}); check name, source and base_url.")
        if status not in (200, 206):
            raise WeightsError(f"{self._url} cannot be fetched: {said}.")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise WeightsError(f"{self._url} is sent compressed although it was asked for as it is.")

    def _need_room(self, announced: Announced, start: int) -> None:
        needed = (announced.size or 0) - start
        free = shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise WeightsError(
                f"{self._path.name} needs {needed / 1e9:,.1f} GB more, and {self._path.parent} has "
                f"{free / 1e9:,.1f} GB free; make room, or set RESONANCE_HOME to another disk."
            )

    def _finish(self, announced: Announced) -> Fetched:
        """Verify the partial file and give it its name."""
        size = self._here()
        if announced.size is not None and size != announced.size:
            if size > announced.size:
                self._discard()
            raise Transient(f"{size:,} bytes arrived and {announced.size:,} were announced")
        found = hash_file(self._partial, {"sha256", *announced.digests})
        for algorithm, digest in announced.digests.items():
            if found[algorithm] != digest:
                self._discard()
                reason = f"its {algorithm} is {found[algorithm]}, and {digest} was announced"
                if self._damaged:
                    raise WeightsError(f"{self._url} arrived damaged twice ({reason}); it was thrown away.")
                self._damaged = True
                raise Transient(reason)
        with self._partial.open("rb+") as file:
            os.fsync(file.fileno())
        self._partial.replace(self._path)
        self._record.unlink(missing_ok=True)
        return Fetched(size, found["sha256"], announced.revision)

    def _here(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _begun(self) -> Announced | None:
        try:
            return Announced(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _discard(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self._farthest = 0
