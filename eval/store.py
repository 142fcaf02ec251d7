"""An evaluation on disk: `eval.json` and `eval/<task>.jsonl`, written so that an interrupted evaluation goes on.

While a task runs, its records are appended to `eval/<task>.partial.jsonl`, after a line that identifies the
evaluation. When it ends, `eval/<task>.jsonl` and then `eval.json` are replaced atomically, so that both always hold
whole tasks.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from eval import EvalError
from eval.eval_json import EvalJson, Json
from eval.provenance import Provenance
from eval.records import from_line, read_records, records_path, records_sha256, to_line, write_records
from eval.results import Result, scores_of
from eval.tasks.base import Item, Record, Task
from resonance.provenance import now


class Store:
    """Keeps the evaluation of one model in a folder.

    Args:
        folder: gets `eval.json` and `eval/`.
        checkpoint: the model's name in `eval.json`.
        provenance: what all tasks have in common.
        settings: returns a task's settings.
        reuse: folders of further evaluations, to take records over from.
        fresh: evaluate again what was evaluated already.
        say: called with a sentence about records that are taken over or dropped.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: str,
        provenance: Provenance,
        settings: Callable[[str, Task[Any]], Mapping[str, object]],
        *,
        reuse: Sequence[Path] = (),
        fresh: bool = False,
        say: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.document = EvalJson(folder, checkpoint, provenance.weights_sha256)
        self._folder = folder
        self._provenance = provenance
        self._settings = settings
        self._reuse = reuse
        self._fresh = fresh
        self._say = say

    @contextmanager
    def open(self, name: str, task: Task[Any], items: Sequence[Item[Any]]) -> "Generator[OpenTask]":
        """The task's records so far, and a file for the rest. Raises EvalError while another process runs the task."""
        identity: Json = {
            "version": task.version,
            "settings": dict(self._settings(name, task)),
            **self._provenance.identity,
            **(self._provenance.data if task.needs_examples else dict.fromkeys(self._provenance.data)),
            "items": len(items),
            "items_sha256": hashlib.sha256("\n".join(item.id for item in items).encode()).hexdigest(),
        }
        for folder in () if self._fresh else (self._folder, *self._reuse):
            if (finished := self._finished(folder, name, identity)) is not None:
                yield finished
                return
        path = _partial(self._folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file, _lock(file, f"{name} is being evaluated by another process; wait for it."):
            records, elapsed = self._unfinished(name, file, identity)
            opened = OpenTask(name, identity, {record.item: record for record in records}, file, elapsed)
            try:
                yield opened
            except EvalError:
                if not opened.records:
                    path.unlink(missing_ok=True)  # nothing to go on from
                raise

    def finish(self, opened: "OpenTask", result: Result) -> None:
        """Replace the task's records and its entry in `eval.json`, unless they were taken over."""
        if opened.finished and opened.reused is None:
            return
        name, path = opened.name, records_path(self._folder, opened.name)
        write_records(path, result.records)
        measured: Json = opened.reused or {
            **opened.identity,
            **self._provenance.circumstances,
            "created_at": now(),
            "duration_s": round(opened.seconds, 3),
            "metrics": _metrics(result),
            "notes": [*result.notes],
            **result.provenance,
        }
        with self.document.change() as document:
            if scores := scores_of(result, seed=self._provenance.seed):
                document["tasks"][name] = scores
            document["provenance"][name] = {**measured, "records_sha256": records_sha256(path)}
            document["not_run"].pop(name, None)
            document["contamination"].pop(name, None)
            for by_task in document["comparisons"].values():
                by_task.pop(name, None)
        _partial(self._folder, name).unlink(missing_ok=True)

    def amend(self, before: Mapping[str, Result], after: Mapping[str, Result]) -> None:
        """Replace the records and scores of tasks to whose results something was added, such as paired verdicts."""
        for name, result in after.items():
            if result is before[name] or result.error is not None:
                continue
            path = records_path(self._folder, name)
            with self.document.change() as document:
                write_records(path, result.records)
                changed = {
                    "records_sha256": records_sha256(path),
                    "metrics": _metrics(result),
                    "notes": [*result.notes],
                    **result.provenance,
                }
                document["provenance"][name] |= changed
                document["tasks"][name] = scores_of(result, seed=self._provenance.seed)

    def fail(self, name: str, reason: str) -> None:
        """Record why a task did not run."""
        with self.document.change() as document:
            document["not_run"][name] = reason

    def _finished(self, folder: Path, name: str, identity: Json) -> "OpenTask | None":
        """The task with the records of a finished evaluation in `folder` of the same identity, if they are whole."""
        entry = self.document.of(folder).read()["provenance"].get(name)
        path = records_path(folder, name)
        if entry is None or not path.is_file() or not _same(entry, identity):
            return None
        if records_sha256(path) != entry.get("records_sha256"):
            self._say(f"{name}: {path.name} has changed since it was written, so the task runs again")
            return None
        here = folder == self._folder
        source = "an earlier evaluation" if here else str(folder)
        self._say(f"{name}: taken over from {source} with the same settings; fresh=true runs it again")
        records = {record.item: record for record in read_records(path)}
        return OpenTask(name, identity, records, None, 0.0, None if here else {"reused_from": str(folder), **entry})

    def _unfinished(self, name: str, file: IO[bytes], identity: Json) -> tuple[list[Record], float]:
        """The records of an interrupted evaluation and its seconds; the file is left ready for the next record.

        A last line that a kill cut short is removed.
        """
        file.seek(0)
        head = file.readline()
        records: list[Record] = []
        elapsed, end = 0.0, file.tell()
        if head and not self._fresh and head == _head(identity):
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    values = json.loads(line)
                    records.append(from_line(json.dumps(values["record"])))
                    elapsed = float(values["elapsed_s"])
                except (ValueError, TypeError, AttributeError, LookupError):
                    break
                end += len(line)
            self._say(f"{name}: goes on after {len(records)} of {identity['items']} items")
        else:
            if head and not self._fresh:
                self._say(f"{name}: starts anew, because an unfinished evaluation had other weights, data or settings")
            file.truncate(0)
            file.write(_head(identity))
            file.flush()
            end = len(_head(identity))
        file.truncate(end)
        return records, elapsed


class OpenTask:
    """A task's records by item; `append` adds one, and keeps it on disk.

    `reused` is the entry in `eval.json` of records that are taken over from another folder.
    """

    def __init__(
        self,
        name: str,
        identity: Json,
        records: dict[str, Record],
        file: IO[bytes] | None,
        elapsed: float,
        reused: Json | None = None,
    ) -> None:
        self.name = name
        self.identity = identity
        self.records = records
        self.reused = reused
        self.finished = file is None  # taken over as a whole
        self._file = file
        self._started = time.monotonic() - elapsed

    @property
    def seconds(self) -> float:
        """The time that the task took, without interruptions."""
        return time.monotonic() - self._started

    def append(self, record: Record) -> None:
        """Keep a record; a kill at any moment loses at most this one."""
        assert self._file is not None
        self.records[record.item] = record
        line = f'{{"elapsed_s": {self.seconds:.3f}, "record": {to_line(record).rstrip()}}}\n'
        self._file.write(line.encode())
        self._file.flush()


def _metrics(result: Result) -> Json:
    return {name: asdict(spec) for name, spec in result.specs.items()}


def _partial(folder: Path, name: str) -> Path:
    return records_path(folder, name).with_suffix(".partial.jsonl")


def _same(entry: Mapping[str, object], identity: Mapping[str, object]) -> bool:
    return _canonical({name: entry.get(name) for name in identity}) == _canonical(identity)


def _head(identity: Json) -> bytes:
    return (_canonical(identity) + "\n").encode()


def _canonical(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@contextmanager
def _lock(file: IO[bytes], busy: str) -> Generator[None]:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EvalError(busy) from None
    if os.fstat(file.fileno()).st_nlink == 0:  # the other process has just finished and removed it
        raise EvalError(busy)
    yield
