"""`resonance checkpoints`: whole runs and broken ones."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from rich.console import Console

from resonance.checkpoint import Checkpoint
from resonance.cli.checkpoints import Entry, list_entries, main, model_name, table
from resonance.errors import ResonanceError
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

SCORES: dict[str, dict[str, object]] = {
    "instruct": {"exact_match": {"value": 0.8312, "n": 400, "ci95": [0.79, 0.87]}, "token_f1": {"value": 0.9}},
    "perplexity": {"perplexity": {"value": 3.25, "n": 400, "ci95": [3.1, 3.4]}},
}
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A good run of yesterday, one of now cut off in the middle, one without weights, one of unreadable metadata."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(context_length=32, n_layer=1, n_head=2, n_embd=8))
    tokenizer = Tokenizer.gpt2()
    metadata = Metadata(base="/weights/gpt2-medium", data="basics", steps=12_000, tokens_seen=5, scores=SCORES)
    for name in ("good", "cut-off", "garbled"):
        Checkpoint.save(tmp_path / name, model, tokenizer, metadata)
    with (tmp_path / "cut-off" / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    (tmp_path / "garbled" / "resonance.json").write_text("{")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "train.yaml").write_text("seed: 1\n")
    (tmp_path / "README.md").write_text("not a run")
    (tmp_path / "notes").mkdir()
    for age, name in enumerate(("cut-off", "good", "garbled")):
        then = (NOW - timedelta(hours=30 * age + 1)).timestamp()
        os.utime(tmp_path / name / "model.safetensors", (then, then))
    begun = (NOW - timedelta(days=30)).timestamp()
    os.utime(tmp_path / "begun", (begun, begun))
    return tmp_path


def shown(entries: list[Entry], *chosen: str, width: int = 160) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table(entries, chosen, now=NOW))
    return capture.get()


def test_runs_come_newest_first_and_broken_ones_with_the_reason(root: Path) -> None:
    entries = list_entries(root)
    assert [entry.name for entry in entries] == ["cut-off", "good", "garbled", "begun"]
    problems = {entry.name: entry.problem for entry in entries}
    assert problems.pop("good") is None
    assert "model.safetensors" in (problems["cut-off"] or "")
    assert "resonance.json cannot be read" in (problems["garbled"] or "")
    assert "no weights yet" in (problems["begun"] or "")


def test_the_table_says_what_one_wants_to_know(root: Path) -> None:
    text = shown(list_entries(root))
    (line,) = (line for line in text.splitlines() if "good" in line)
    for fact in ("1x8, from gpt2-medium", "basics", "12,000", "instruct exact match 0.8312", "MB", "1 d"):
        assert fact in line
    assert " perplexity 3.25" in text
    assert text.count("broken") == 3


def test_a_narrow_terminal_loses_no_fact(root: Path) -> None:
    narrow = "".join(shown(list_entries(root), width=60).replace("│", " ").split())
    assert "good" in narrow
    assert "12,000" in narrow


def test_below_the_table_stands_what_is_wrong_with_the_broken_ones(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([f"root={root}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[-3:]] == ["cut-off", "garbled", "begun"]


def test_json_is_for_programs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"root={root}", "json=true"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    good = rows["good"]
    assert good["problem"] is None
    assert (good["model"], good["base"], good["data"], good["steps"]) == (
        "1x8",
        "/weights/gpt2-medium",
        "basics",
        12_000,
    )
    assert good["scores"] == SCORES
    assert good["bytes"] > 1_000_000
    assert datetime.fromisoformat(good["changed_at"]).tzinfo is not None
    assert set(rows["begun"]) == {"name", "folder", "bytes", "changed_at", "problem"}


def test_no_runs_yet_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"root={tmp_path / 'nowhere'}"])
    assert "make one with `resonance train`" in capsys.readouterr().out
    main([f"root={tmp_path}", "json=true"])
    assert json.loads(capsys.readouterr().out) == []


def test_a_model_is_called_by_its_preset_whatever_its_vocabulary_and_context() -> None:
    assert model_name(GPT2Config(vocab_size=50259, context_length=256, n_layer=12, n_head=12, n_embd=768)) == "gpt2"
    assert model_name(GPT2Config(n_layer=3, n_head=3, n_embd=48)) == "3x48"


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs, oldest first: `low`, `high` and `middle` with scores, `bare` without any."""
    root, tokenizer = tmp_path_factory.mktemp("scored"), Tokenizer.gpt2()
    model = GPT2(GPT2Config(context_length=32, n_layer=1, n_head=2, n_embd=8))
    runs = {"low": (0.1, 9.0), "high": (0.9, 5.0), "middle": (0.5, 2.0), "bare": None}
    for age, (name, values) in enumerate(runs.items()):
        scores: dict[str, dict[str, object]] = {}
        if values is not None:
            exact, perplexity = values
            scores["instruct"] = {"exact_match": {"value": exact, "n": 10, "ci95": [exact - 0.1, exact + 0.1]}}
            scores["perplexity"] = {"perplexity": {"value": perplexity, "n": 10}}
        Checkpoint.save(root / name, model, tokenizer, Metadata(scores=scores))
        then = (NOW + timedelta(hours=age)).timestamp()
        os.utime(root / name / "model.safetensors", (then, then))
    families = {"by_family": {"sums": {"value": 0.25, "n": 4, "ci95": [0.05, 0.7]}}}
    lower = {"perplexity": {"metrics": {"perplexity": {"kind": "perplexity", "higher_is_better": False}}}}
    (root / "high" / "eval.json").write_text(json.dumps({"tasks": {"instruct": families}, "provenance": lower}))
    return root


def names(root: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> list[str]:
    main([f"root={root}", "json=true", *settings])
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["sort=instruct.exact_match"], ["high", "middle", "low", "bare"]),
        (["sort=instruct.exact_match", "order=ascending"], ["low", "middle", "high", "bare"]),
        (["sort=perplexity.perplexity"], ["middle", "high", "low", "bare"]),  # the lowest is the best
        (["sort=perplexity.perplexity", "order=descending"], ["low", "high", "middle", "bare"]),
        (["where=instruct.exact_match>=0.5"], ["middle", "high"]),  # by age
        (["where=instruct.exact_match>=0.5,perplexity.perplexity<5"], ["middle"]),
        (["where=[instruct.exact_match<0.9,perplexity.perplexity!=2]"], ["low"]),
        (["where=instruct.by_family.sums>0.2", "sort=instruct.exact_match"], ["high"]),
        (["where=instruct.exact_match>1"], []),
    ],
)
def test_runs_are_sorted_and_filtered_by_any_score(
    scored: Path, capsys: pytest.CaptureFixture[str], settings: list[str], expected: list[str]
) -> None:
    assert names(scored, capsys, *settings) == expected


def test_the_table_shows_the_chosen_scores_with_their_intervals(scored: Path) -> None:
    text = shown(list_entries(scored), "instruct.exact_match", "perplexity.perplexity")
    rows = {name: line for line in text.splitlines() for name in ("high", "bare") if name in line}
    assert "0.9 (0.8–1)" in rows["high"]
    assert rows["bare"].count("–") == 3  # no data either


def test_no_run_that_meets_a_condition_is_said(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"root={scored}", "where=instruct.exact_match>1"])
    assert "No run meets where=instruct.exact_match>1." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("sort=instruct.exact_mach", "No run has a score 'instruct.exact_mach'; did you mean 'instruct.exact_match'?"),
        ("where=nothing>1", "there are instruct.by_family.sums, instruct.exact_match, perplexity.perplexity"),
        ("where=instruct.exact_match", "no condition; write a score, one of >="),
        ("where=instruct.exact_match>=much", "no condition"),
        ("order=down", "order must be ascending or descending, not 'down'"),
    ],
)
def test_a_mistyped_score_or_condition_gets_a_sentence(scored: Path, setting: str, sentence: str) -> None:
    with pytest.raises(ResonanceError) as caught:
        main([f"root={scored}", setting])
    assert sentence in str(caught.value)


def test_runs_without_any_score_say_how_to_make_some(tmp_path: Path) -> None:
    Checkpoint.save(tmp_path / "bare", GPT2(GPT2Config(n_layer=1, n_head=2, n_embd=8)), Tokenizer.gpt2())
    with pytest.raises(ResonanceError, match="No run has scores yet"):
        main([f"root={tmp_path}", "sort=instruct.exact_match"])
