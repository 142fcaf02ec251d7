"""`resonance bench`: the figures' form, what it refuses, and a small run from end to end."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from rich.console import Console

from resonance.bench import loops, report
from resonance.bench import machine as limits
from resonance.bench.growth_chart import write_picture
from resonance.bench.job import Job
from resonance.bench.runner import Excluded, Measurements, Settings, Worker
from resonance.checkpoint import Checkpoint
from resonance.cli.main import run
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

SMALL = GPT2Config(vocab_size=50257, context_length=1024, n_layer=1, n_head=2, n_embd=32)
QUICK = [
    "rounds=1",
    "repeats=1",
    "new_tokens=40",
    "prompt_tokens=8",
    "prefill_tokens=16",
    "threads=1",
    "machine_seconds=0.01",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Checkpoint.save(tmp_path_factory.mktemp("bench") / "small", GPT2(SMALL), Tokenizer.gpt2()).folder


def bench(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from resonance.cli.main import main; sys.exit(main())", "bench"]
    return subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=240, check=False)


def test_a_small_run_prints_a_table_and_writes_the_designs_json(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = bench(
        f"checkpoint={folder}", "what=[decode,growth,prefill,mixed,turns,quoting]", "batch=[2]",
        "contexts=[8,24]", "precision=[fp32,int8]",
        f"json={path}", *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    assert list(figures) == ["machine", "rows"]
    assert {"read_gb_per_s", "matmul_gflop_per_s"} <= set(figures["machine"])
    assert [(row["precision"], row["what"]) for row in figures["rows"]] == [
        (precision, what)
        for precision in ("fp32", "int8")
        for what in ("decode", "growth", "growth", "prefill", "mixed", "turns", "quoting")
    ]
    for row in figures["rows"]:
        assert list(row)[:7] == ["what", "who", "batch", "precision", "tokens_per_s", "ceiling_share", "peak_rss_mb"]
        speed = row["tokens_per_s"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]
        assert (row["ceiling_share"] is not None) == (row["what"] in ("decode", "growth", "prefill"))
        assert row["who"] == "resonance"
        assert row["peak_rss_mb"] > 50
    assert "decode" in done.stdout
    assert "round 1 of 1" in done.stdout


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("peer=[vllm]", "peer must be of transformers, trl, nanogpt, ctranslate2, openvino, llamacpp, not 'vllm'."),
        ("precision=[int2]", "precision must be of fp32, bf16, int8, int4, not 'int2'."),
        (
            "what=flight",
            "what must be of decode, growth, prefill, mixed, turns, quoting, serve, train, dense, not 'flight'.",
        ),
        ("machine_seconds=0", "machine_seconds must be a number above 0, not 0."),
        ("what=growth contexts=[64,0]", "contexts must be made of whole numbers of at least 1, not 0."),
        (
            "peer=openvino programs.openvino=/nowhere",
            "programs.openvino must be the Python of a virtual environment, not",
        ),
        (
            "peer=llamacpp programs.llamacpp=/nowhere",
            "finds no llama-batched-bench and llama-server in /nowhere; `python",
        ),
        (
            "peer=nanogpt",
            "peer=nanogpt needs programs.nanogpt: the folder of a checkout of nanoGPT, with its model.py.",
        ),
        ("batch=[0]", "batch must be made of whole numbers of at least 1, not 0."),
        ("rounds=0", "rounds must be a whole number of at least 1, not 0."),
        ("new_tokens=1000", "what=decode makes texts of 1128 tokens, but the model's context holds 1024;"),
        ("prefill_tokens=1025 what=prefill", "what=prefill makes texts of 1025 tokens"),
        ("model=nano what=turns", "what=turns makes texts of 716 tokens, but the model's context holds 512;"),
        ("model=nano what=quoting", "what=quoting makes texts of 528 tokens"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence_before_anything_is(
    override: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *override.split()]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""


def test_a_program_that_answers_too_late_is_left_out(folder: Path) -> None:
    job = Job("decode", batch=1, prompt_tokens=8, new_tokens=1000, repeats=1000)
    worker = Worker("resonance", "fp32", [job], Settings(folder, threads=1, rounds=1, turn_seconds=1))
    started = 0.0
    with worker, pytest.raises(Excluded, match="longer than 1 s"):
        started = time.monotonic()
        worker.measure(job)
    assert time.monotonic() - started < 30


def test_a_program_that_does_not_load_says_why(tmp_path: Path) -> None:
    job = Job("decode", batch=1, prompt_tokens=8, new_tokens=4, repeats=1)
    worker = Worker("resonance", "fp32", [job], Settings(tmp_path, threads=1, rounds=1, turn_seconds=60))
    with pytest.raises(Excluded, match="ended with code 1"), worker:
        pass


def test_the_report_says_why_the_kernels_are_missing() -> None:
    known = limits.Machine("made up", 2, 2, "2", {}, {}, kernels_unavailable="no C++ compiler found")
    console = Console(width=200, file=io.StringIO())
    report.print_machine(console, known)
    assert isinstance(console.file, io.StringIO)
    assert "torch instead of its C++ kernels: no C++ compiler found" in console.file.getvalue()
    assert known.as_json()["kernels_unavailable"] == "no C++ compiler found"


def test_ceilings_follow_from_what_must_be_read_and_multiplied() -> None:
    sizes = [str(size) for size in limits.SIZES_MB]
    known = limits.Machine("made up", 2, 2, "2", dict.fromkeys(sizes, 10.0), {"fp32": 100.0, "bf16": 400.0})
    config = GPT2Config.preset("gpt2")
    weights = 12 * 12 * 768**2 + 50257 * 768
    assert limits.decode_ceiling(known, config, "fp32", 1, 0) == pytest.approx(10e9 / (4 * weights))
    assert limits.decode_ceiling(known, config, "int8", 1, 0) == pytest.approx(10e9 / weights)
    with_cache = limits.decode_ceiling(known, config, "bf16", 8, 192)
    assert with_cache == pytest.approx(8 * 10e9 / (2 * weights + 8 * 192 * 2 * 12 * 768 * 2))
    assert limits.prefill_ceiling(known, config, "bf16", 512) == 4 * limits.prefill_ceiling(known, config, "fp32", 512)


def test_the_bandwidth_between_two_measured_sizes_lies_between_theirs() -> None:
    known = limits.Machine("made up", 2, 2, "2", {"64": 80.0, "128": 60.0, "1024": 40.0}, {"fp32": 1.0})
    assert [known.read_rate(mb * 1e6) for mb in (1, 64, 96, 128, 5000)] == [80, 80, 70, 60, 40]


def test_the_machines_limits_are_the_best_of_all_measurements() -> None:
    first = limits.Machine("made up", 2, 2, "2", {"64": 80.0}, {"fp32": 1.0, "bf16": 5.0})
    second = limits.Machine("made up", 2, 2, "2", {"64": 70.0}, {"fp32": 2.0, "bf16": 4.0})
    best = first.best_of(second)
    assert (best.read_gb_per_s, best.matmul_gflop_per_s) == ({"64": 80.0}, {"fp32": 2.0, "bf16": 5.0})


def test_the_engines_own_product_is_one_of_the_machines_loops() -> None:
    # A row of ones times a matrix of ones, in the kernels' own layout.
    memory = torch.ones(128 * 64)
    product = loops.PackedProduct("fp32", memory, rows=2, inputs=64, outputs=128, threads=1)
    product.hidden.fill_(1)
    product()
    assert (product.logits == 64).all()
    kinds = [type(loop) for loop in loops.products("fp32", 4, 64, 128, threads=1)]
    assert loops.PackedProduct in kinds
    assert len(kinds) >= 3


def test_training_is_limited_by_products_of_the_blocks_and_of_the_supervised_tokens_head() -> None:
    known = limits.Machine("made up", 2, 2, "2", {}, {"fp32": 100.0, "bf16": 400.0})
    config = GPT2Config.preset("gpt2")
    blocks, head = 12 * 12 * 768**2, 50257 * 768
    assert limits.train_ceiling(known, config, "bf16", 0.0, 0.0) == pytest.approx(400e9 / (6 * blocks))
    whole = limits.train_ceiling(known, config, "fp32", 1.0, 100.0)
    assert whole == pytest.approx(100e9 / (6 * (blocks + head + 12 * 2 * 768 * 100)))


def test_growth_is_a_picture_with_a_panel_for_each_batch_and_a_line_for_each_program(tmp_path: Path) -> None:
    measured = [
        Measurements(Job("growth", batch, context, 8, 1), who, "int8", rates=[900.0 - context, 1000.0 - context])
        for batch in (1, 8)
        for context in (64, 384, 896)
        for who in ("resonance", "llama.cpp")
    ]
    write_picture(tmp_path / "growth.svg", measured)
    root = ElementTree.fromstring((tmp_path / "growth.svg").read_text())
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 4
    text = " ".join(root.itertext())
    for words in ("batch 1: tokens/s", "batch 8: tokens/s", "resonance int8", "llama.cpp int8", "896"):
        assert words in text


@pytest.mark.slow
def test_an_interrupted_run_keeps_what_it_measured(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    command = [sys.executable, "-c", "import sys; from resonance.cli.main import main; sys.exit(main())", "bench"]
    overrides = [f"checkpoint={folder}", "precision=[fp32]", "batch=[1]", f"json={path}", *QUICK[1:], "rounds=100000"]
    running = subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "share" in said  # the table
    assert json.loads(path.read_text())["rows"][0]["what"] == "decode"
