"""Proves the closed loop: people ask, correct and rate over the API, `resonance improve` learns from it, or refuses.

    python -m tests.e2e.improve_proof clean --checkpoint checkpoints/demo
    python -m tests.e2e.improve_proof poisoned useless --checkpoint checkpoints/demo
    python -m tests.e2e.improve_proof clean --checkpoint checkpoints/demo --store postgresql://user@host/db

Four people ask 300 questions of families that the demo is weak in. `clean`: they give the right answers, with a few
contradictions, secrets and withdrawals; a fifth person does not consent. `poisoned`: 30% of the corrections are wrong.
`useless`: what they say cannot be learned. Prints one JSON object per case.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from resonance.aliases import read_aliases

from .improve_questions import Question, questions

PEOPLE = ("ada", "ben", "eve", "kim")
SILENT = "zoe"  # does not consent
DISTINCT, REPEATED = 240, 60  # asked by one person, and of these again by another
STREAMS = 8
CASES = ("clean", "poisoned", "useless")


@dataclass
class World:
    """A folder with the runs, a server of the alias, and the people's keys."""

    folder: Path
    store: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    clients: dict[str, httpx.Client] = field(default_factory=dict[str, httpx.Client])

    @property
    def root(self) -> Path:
        """The folder of the runs."""
        return self.folder / "runs"

    @property
    def environment(self) -> dict[str, str]:
        """Of the server and of the command, so that reports name people."""
        keys = ",".join(f"{name}:key-of-{name}-{'x' * 20}" for name in (*PEOPLE, SILENT))
        return os.environ | {"RESONANCE_HOME": str(self.folder / "home"), "RESONANCE_API_KEYS": keys}

    def client(self, name: str) -> httpx.Client:
        """A person's client."""
        if name not in self.clients:
            headers = {"Authorization": f"Bearer key-of-{name}-{'x' * 20}"}
            self.clients[name] = httpx.Client(
                base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=300, trust_env=False
            )
        return self.clients[name]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `resonance`."""
        command = [sys.executable, "-m", "resonance.cli", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def served(self) -> str:
        """The run that the alias names for the server."""
        (model,) = self.client("ada").get("/v1/models").json()["data"]
        return str(model["resonance"]["checkpoint"])


@contextlib.contextmanager
def world(checkpoint: Path, folder: Path, store: str | None) -> Iterator[World]:
    """Copy the checkpoint, promote it, and serve it until the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = World(folder, store or f"sqlite:///{folder / 'conversations.sqlite'}", port)
    shutil.copytree(checkpoint, found.root / "demo", ignore=shutil.ignore_patterns("last.ckpt", "wandb", "last"))
    done = found.command("promote", "demo", f"root={found.root}", "verify=false")
    assert done.returncode == 0, done.stderr
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "resonance.cli", "serve", "checkpoint=production", f"root={found.root}",
                   f"port={port}", f"store.url={found.store}", "max_batch_size=16", "max_queue=64"]  # fmt: skip
        found.process = subprocess.Popen(command, stdout=log, stderr=log, env=found.environment)
    try:
        until(lambda: _healthy(found), 240)
        yield found
    finally:
        for client in found.clients.values():
            client.close()
        found.process.terminate()
        found.process.wait(timeout=60)


def until(check: Any, seconds: float) -> None:
    """Wait until something is true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.2)


def ask(client: httpx.Client, text: str, session: str | None = None) -> tuple[str, str]:
    """Ask one question greedily; returns the answer and its id."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 48}
    if session is not None:
        body["session_id"] = session
    for _ in range(20):
        response = client.post("/v1/chat/completions", json=body)
        if response.status_code != 503:  # a busy machine: the database is locked for longer than the server waits
            break
        time.sleep(float(response.headers.get("Retry-After", 1)))
    response.raise_for_status()
    answer = response.json()
    return answer["choices"][0]["message"]["content"].strip(), answer["id"]


def score(found: World, asked: Sequence[Question]) -> dict[str, float]:
    """The share of right answers over the API, by family and of all."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: ask(found.client("ada"), one.text)[0] == one.answer, asked))
    families = sorted({one.family for one in asked})
    by_family = {
        name: [right for one, right in zip(asked, answers, strict=True) if one.family == name] for name in families
    }
    return {name: sum(each) / len(each) for name, each in [*by_family.items(), ("all", answers)]}


def talk(found: World, case: str, bank: Sequence[Question]) -> Counter[str]:
    """Ask 300 questions as four people, and judge the answers as the case says."""
    rng = random.Random(7)
    distinct = list(bank[:DISTINCT])
    asked = [(one, PEOPLE[place % 4]) for place, one in enumerate(distinct)]
    asked += [(one, PEOPLE[(place + 1) % 4]) for place, one in enumerate(distinct[:REPEATED])]
    acts = [(place, one, who, rng.random(), rng.choice(distinct)) for place, (one, who) in enumerate(asked)]
    for name in PEOPLE:
        assert found.client(name).put("/v1/training-consent", json={"given": True}).status_code == 200
    counts: Counter[str] = Counter()

    def act(place: int, one: Question, who: str, chance: float, other: Question) -> None:
        client, session = found.client(who), f"{case}-{place}"
        is_secret = case == "clean" and place % 30 == 7
        text = f"My password is hunter{place}. {one.text}" if is_secret else one.text
        answer, message = ask(client, text, session)
        truth = one.answer
        if case == "useless":
            truth = hashlib.sha256(one.text.encode()).hexdigest()[:6]
        elif case == "poisoned" and chance < 0.3 and answer != truth:
            truth = other.answer if other.answer != truth else "no"
            counts["wrong corrections"] += 1
        elif case == "clean" and place >= DISTINCT and place % 20 == 3:
            truth = "I do not know"  # contradicts the other person
            counts["contradictions"] += 1
        counts["secrets"] += is_secret
        body = {"rating": 1} if answer == truth else {"rating": -1, "correction": truth}
        path = f"/v1/conversations/{session}/messages/{message}/feedback"
        client.put(path, json=body).raise_for_status()
        counts["approved" if answer == truth else "corrected"] += 1
        if case == "clean" and place % 30 == 11:
            client.delete(path).raise_for_status()
            counts["withdrawn"] += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: act(*each), acts))
    for place, one in enumerate(distinct[:10]):  # of somebody who does not agree to training
        _, message = ask(found.client(SILENT), one.text, f"silent-{place}")
        path = f"/v1/conversations/silent-{place}/messages/{message}/feedback"
        found.client(SILENT).put(path, json={"rating": -1, "correction": "wrong"}).raise_for_status()
    return counts


@dataclass
class Streams:
    """Eight streams at any time, one after the other, until they are stopped."""

    found: World
    stop: threading.Event = field(default_factory=threading.Event)
    whole: int = 0
    broken: list[str] = field(default_factory=list[str])
    threads: list[threading.Thread] = field(default_factory=list[threading.Thread])

    def start(self) -> None:
        """Begin."""
        self.threads = [threading.Thread(target=self._stream) for _ in range(STREAMS)]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Wait for the last ones."""
        self.stop.set()
        for thread in self.threads:
            thread.join(120)

    def _stream(self) -> None:
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 200,
                "temperature": 1.0, "logit_bias": {"50256": -100, "50258": -100}}  # fmt: skip
        while not self.stop.is_set():
            last = ""
            try:
                with self.found.client("kim").stream("POST", "/v1/chat/completions", json=body) as response:
                    for line in response.iter_lines():
                        last = line or last
            except httpx.HTTPError as error:
                last = repr(error)
            if last == "data: [DONE]":
                self.whole += 1
            else:
                self.broken.append(last)


def learned(found: World, name: str) -> tuple[dict[str, Any], Counter[str]]:
    """A person's newest checkpoint in /v1/learned, and how many of the person's judgements it was used for, by use."""
    uses: Counter[str] = Counter()
    page: dict[str, Any] = {"has_more": True}
    newest: dict[str, Any] = {}
    query: dict[str, Any] = {"limit": 100}
    while page["has_more"]:
        page = found.client(name).get("/v1/learned", params=query).json()
        newest = newest or next(iter(page["checkpoints"]), {})
        for judgement in page["data"]:
            uses.update(each["use"] for each in judgement["checkpoints"] if each["checkpoint"] == newest["checkpoint"])
            query["after"] = judgement["id"]
    return newest, uses


def improve(found: World, *words: str) -> tuple[int, str, float, Streams]:
    """Run `resonance improve`; eight streams run from the gate on until the server has followed."""
    streams = Streams(found)
    started = time.monotonic()
    command = [sys.executable, "-m", "resonance.cli", "improve", f"root={found.root}", *words]
    environment = found.environment | {"DATABASE_URL": found.store}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        time.sleep(0.3)
        if not streams.threads and any(
            '"gate"' in path.read_text() for path in found.root.glob(".improve/*/journal.json")
        ):
            streams.start()
    seconds = time.monotonic() - started
    assert process.stdout is not None
    printed = process.stdout.read()
    if process.returncode == 0:
        until(lambda: found.served() != "demo", 120)
        time.sleep(2)
    streams.end()
    return process.returncode, printed, seconds, streams


def prove(case: str, checkpoint: Path, folder: Path, store: str | None, words: Sequence[str]) -> dict[str, Any]:
    """One case from the start to the end; returns its figures."""
    folder.mkdir(parents=True)
    bank = questions(1)
    unseen = bank[DISTINCT:]
    with world(checkpoint, folder, store) as found:
        started = time.monotonic()
        before = score(found, unseen)
        counts = talk(found, case, bank)
        talked = time.monotonic() - started
        code, printed, seconds, streams = improve(found, *words)
        after = score(found, unseen)
        figures: dict[str, Any] = {
            "case": case, "exit": code, "talked_s": round(talked, 1), "improve_s": round(seconds, 1),
            "feedback": dict(counts), "served": found.served(),
            "unseen": {"n": len(unseen), "before": before, "after": after},
            "streams": {"whole": streams.whole, "broken": streams.broken}, "printed": printed,
            "stages": [json.loads(path.read_text()) for path in sorted(found.root.glob(".improve/*/journal.json"))],
            "load": os.getloadavg()[0],
        }  # fmt: skip
        figures["learned"] = {name: learned(found, name) for name in (*PEOPLE, SILENT)}
        if code == 0:
            back = found.command("promote", "--back", f"root={found.root}")
            assert back.returncode == 0, back.stderr
            until(lambda: found.served() == "demo", 120)
            figures["back"] = read_aliases(found.root)["production"].current.run
    return figures


def _healthy(found: World) -> bool:
    assert found.process is not None
    assert found.process.poll() is None, (found.folder / "server.log").read_text()[-3000:]
    with contextlib.suppress(httpx.HTTPError):
        return found.client("ada").get("/health").status_code == 200
    return False


def main() -> None:
    """Run the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/demo"))
    parser.add_argument("--folder", type=Path, help="keeps the runs and reports; default: a temporary one")
    parser.add_argument("--store", help="a database's address; default: SQLite in the folder")
    parser.add_argument("--set", action="append", default=[], help="an override of resonance improve")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="improve-") as temporary:
        folder = options.folder or Path(temporary)
        for case in options.cases:
            figures = prove(case, options.checkpoint, folder / case, options.store, options.set)
            print(json.dumps(figures, indent=2, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
