"""On PostgreSQL: what people correct over the API reaches `improve`, a promotion drops no stream, there and back."""

import io
import shutil
import threading
from pathlib import Path

import pytest
from rich.console import Console

from resonance.cli import promote
from resonance.hydra_config import compose
from resonance.improve import stages
from resonance.improve.run import improve
from resonance.improve.settings import settings_of

from .conftest import Start
from .test_serve_aliases import served, stream, text


@pytest.mark.slow
def test_corrections_on_postgresql_are_gathered_and_promoted_under_streams_and_back(
    launch: Start, runs: Path, tmp_path: Path, empty_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(runs, tmp_path / "runs"))
    promote.main([f"root={root}", "verify=false", "run=tiny"])
    server = launch("checkpoint=production", f"root={root}", f"store.url={empty_postgres}")
    assert server.client.put("/v1/training-consent", json={"given": True}).status_code == 200
    for number in range(6):
        asked = [{"role": "user", "content": f"What is {number} and one?"}]
        text(server, session_id=f"c{number}", messages=asked, max_tokens=3)
        (_, answer) = server.client.get(f"/v1/conversations/c{number}").json()["messages"]
        path = f"/v1/conversations/c{number}/messages/{answer['id']}/feedback"
        judged = {"rating": -1, "correction": str(number + 1)}
        assert server.client.put(path, json=judged).status_code == 200
    # improve's own stage, with the command in this process; the database's address comes by the environment.
    exported: list[str] = []

    def run_command(folder: Path, _name: str, words: list[str], environment: dict[str, str], **_more: object) -> str:
        from contextlib import redirect_stdout

        from serve.feedback import main as feedback

        monkeypatch.setenv("DATABASE_URL", environment["DATABASE_URL"])
        with redirect_stdout(io.StringIO()) as printed:
            feedback(["action=export", *words[2:]])
        exported.append((folder / "feedback.jsonl").read_text())
        return printed.getvalue()

    monkeypatch.setattr(stages, "run_command", run_command)
    words = [f"root={root}", f"store.url={empty_postgres}", "screen=false", "dry=true"]
    outcome = improve(settings_of(compose("improve", words)), Console(file=io.StringIO()))
    assert outcome.result == "nothing"  # six answers are too few, and it has seen them all
    assert exported[0].count('"origin": "correction"') >= 6
    assert '"answered_by": "tiny"' in exported[0]
    old = text(server)
    for run in ("other", "tiny"):
        answers: list[str] = []
        begun = threading.Semaphore(0)
        streams = [threading.Thread(target=stream, args=(server, answers, begun)) for _ in range(4)]
        for thread in streams:
            thread.start()
        assert begun.acquire(timeout=60)
        promote.main([f"root={root}", *(["back=true"] if run == "tiny" else ["verify=false", f"run={run}"])])
        assert server.until(lambda run=run: served(server) == run)
        for thread in streams:
            thread.join(120)
        assert len(answers) == 4
    assert text(server) == old
    assert server.stop() == 0
