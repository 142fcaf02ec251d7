"""`resonance eval`, from its overrides to the files it writes."""

import hashlib
import json
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from data.sources import FileSource
from eval import EvalError
from eval.records import read_records
from eval.results import Result, scores_of
from eval.run import main
from eval.tasks.instruct import Instruct
from eval.tasks.perplexity import Perplexity
from resonance.checkpoint import Checkpoint, CheckpointError
from resonance.hydra_config import ConfigError
from resonance.metadata import Metadata

Runs = dict[str, Checkpoint]
SECTIONS = ("tasks", "provenance", "comparisons", "contamination", "not_run")


@pytest.fixture
def learned(runs: Runs, tmp_path: Path) -> Path:
    """A copy of the run to write scores into."""
    return Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))


def evaluate(folder: Path, *settings: str) -> None:
    short = [f"task.{name}.max_new_tokens=8" for name in ("instruct", "rag", "samples")]
    main([f"checkpoint={folder}", *short, "task.rag.retrieval.kinds=[plain]", *settings])


def assert_score(score: object) -> None:
    assert isinstance(score, dict)
    assert set(score) == {"value", "n", "ci95"}
    low, high = score["ci95"]
    assert low <= score["value"] <= high
    assert isinstance(score["n"], int)


def test_eval_json_has_the_form_of_the_design(learned: Path) -> None:
    evaluate(learned)
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    assert list(document) == ["checkpoint", "weights_sha256", "created_at", *SECTIONS]
    assert document["checkpoint"] == "learned"
    assert datetime.fromisoformat(document["created_at"]).utcoffset() is not None
    assert set(document["tasks"]) == {"instruct", "turns", "perplexity"}
    instruct, perplexity = document["tasks"]["instruct"], document["tasks"]["perplexity"]
    assert set(instruct) == {"exact_match", "token_f1", "rouge_l", "chrf", "by_family"}
    assert set(perplexity) == {"perplexity", "bits_per_byte"}
    for name in ("exact_match", "token_f1", "rouge_l", "chrf"):
        assert_score(instruct[name])
    for score in [*perplexity.values(), *instruct["by_family"].values()]:
        assert_score(score)
    assert instruct["exact_match"]["value"] == 1.0
    assert instruct["exact_match"]["n"] == 8
    assert [path.name for path in learned.iterdir() if "tmp" in path.name] == []


def test_every_score_has_its_provenance(learned: Path, colour_file: Path) -> None:
    evaluate(learned, "tasks=[instruct]", "limit=6", "batch_size=5", "compare=[untrained]")
    entry = json.loads((learned / "eval.json").read_text(encoding="utf-8"))["provenance"]["instruct"]
    assert entry["weights_sha256"] == hashlib.sha256((learned / "model.safetensors").read_bytes()).hexdigest()
    assert entry["records_sha256"] == hashlib.sha256((learned / "eval" / "instruct.jsonl").read_bytes()).hexdigest()
    settings = {"_target_": "eval.tasks.instruct.Instruct", "max_new_tokens": 8}
    assert {name: entry["settings"][name] for name in settings} == settings
    expected = {"version": Instruct.version, "dtype": "fp32", "quantize": None, "seed": 0, "limit": 6, "items": 6}
    assert {name: entry[name] for name in expected} == expected
    source = FileSource(path=str(colour_file), train=0.1, test=0.9, validation=0.0, shuffle=False)
    assert entry["data_fingerprint"] == source.fingerprint()
    assert entry["command"].startswith(f"resonance eval checkpoint={learned}")
    assert entry["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", entry["commit"])
    assert {"python", "torch", "resonance"} <= set(entry["versions"])
    assert {"processor", "cores", "gpus"} <= set(entry["hardware"])
    assert entry["duration_s"] > 0
    assert (learned / "eval" / "compare" / "untrained" / "eval" / "instruct.jsonl").is_file()


def test_a_score_can_be_computed_again_from_the_records_alone(learned: Path) -> None:
    evaluate(learned, "tasks=[instruct,perplexity]")
    tasks = json.loads((learned / "eval.json").read_text(encoding="utf-8"))["tasks"]
    for name, specs in (("instruct", Instruct(8).metrics), ("perplexity", Perplexity().metrics)):
        result = Result(specs, tuple(read_records(learned / "eval" / f"{name}.jsonl")))
        assert scores_of(result) == tasks[name]


def test_scores_of_the_same_weights_stay_and_those_of_others_go(learned: Path, runs: Runs) -> None:
    evaluate(learned, "tasks=[perplexity]")
    evaluate(learned, "tasks=[instruct]")
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    assert set(document["tasks"]) == set(document["provenance"]) == {"instruct", "perplexity"}
    shutil.copy(runs["fresh"].folder / "model.safetensors", learned / "model.safetensors")
    evaluate(learned, "tasks=[instruct]")
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    assert set(document["tasks"]) == set(document["provenance"]) == {"instruct"}
    assert [path.name for path in (learned / "eval").glob("*.jsonl")] == ["instruct.jsonl"]
    assert set(Checkpoint.open(learned).metadata.scores) == {"instruct"}


def test_what_did_not_run_is_said_and_recorded(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(learned, "tasks=[turns,perplexity]", "limit=1")
    assert "turns did not run: 1 of 1 test examples have one turn" in " ".join(capsys.readouterr().out.split())
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    assert set(document["tasks"]) == {"perplexity"}
    assert list(document["not_run"]) == ["turns"]


def test_retrieval_is_scored_beside_the_answers_drawn_from_it(learned: Path) -> None:
    evaluate(learned, "tasks=[rag]", "compare=[untrained]")
    rag = json.loads((learned / "eval.json").read_text(encoding="utf-8"))["tasks"]["rag"]
    assert "citation_precision" not in rag  # it cites nothing
    for name in ("exact_match", "contains", "contains_without_sources", "says_when_absent", "says_so_wrongly"):
        assert_score(rag[name])
    assert set(rag["by_family"]) == {"absent", "plain"}
    assert set(rag["retrieval"]) == {"recall@1", "recall@3", "recall@5", "mrr", "ndcg@10", "context_recall"}
    assert rag["retrieval"]["recall@3"]["value"] >= 0.9
    report = (learned / "report.html").read_text(encoding="utf-8")
    assert "rag, retrieval" in report
    assert "recall@3" in report


def test_families_are_scores_too(learned: Path) -> None:
    evaluate(learned, "data=basics", "data.test_size=60", "data.train_size=50", "tasks=[instruct]")
    families = json.loads((learned / "eval.json").read_text(encoding="utf-8"))["tasks"]["instruct"]["by_family"]
    assert len(families) > 10
    assert sum(score["n"] for score in families.values()) == 60
    for score in families.values():
        assert_score(score)


def test_the_scores_are_recorded_with_the_checkpoint_and_on_its_card(learned: Path) -> None:
    evaluate(learned, "tasks=perplexity")
    evaluate(learned, "tasks=[instruct]")
    scores = Checkpoint.open(learned).metadata.scores
    assert set(scores) == {"instruct", "perplexity"}
    assert_score(scores["instruct"]["exact_match"])
    assert "exact_match" in (learned / "README.md").read_text(encoding="utf-8")


def test_before_and_after_stand_side_by_side(learned: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(learned, f"compare=[untrained,{runs['fresh'].folder}]", "tasks=[instruct,samples]")
    out = capsys.readouterr().out
    assert "untrained" in out
    assert "fresh" in out
    (line,) = (line for line in out.splitlines() if "exact match" in line)
    assert line.count("+100.0 p=.008") == 2  # McNemar: 8 to 0 is 2 / 2^8
    assert line.count("0.0% (0.0–32.4)") == 2


def test_the_untrained_model_is_the_base_where_there_was_one(
    learned: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "small-gpt"))
    run = Checkpoint.open(learned)
    Checkpoint.save(
        learned,
        run.load_model(),
        run.load_tokenizer(),
        Metadata(base=str(base), data="colours"),
        train_yaml=run.train_yaml(),
    )
    evaluate(learned, "compare=untrained", "tasks=[perplexity]")
    assert "base (small-gpt)" in capsys.readouterr().out


def test_limit_draws_the_same_examples_again(learned: Path) -> None:
    found: list[object] = []
    for _ in range(2):
        evaluate(learned, "limit=3", "tasks=[perplexity]")
        found.append(json.loads((learned / "eval.json").read_text(encoding="utf-8"))["tasks"])
    assert found[0] == found[1]
    assert found[0]["perplexity"]["perplexity"]["n"] == 3


def test_the_reports_are_written_beside_the_scores(learned: Path) -> None:
    (learned / "metrics.csv").write_text("step,train/loss\n1,3.5\n2,1.25\n")
    evaluate(learned, "tasks=[instruct,samples]", "compare=untrained")
    page, markdown = ((learned / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "at the end 1.25" in page
    assert "learned against untrained" in page
    assert "| instruct | exact match | 8 | 100.0% (67.6–100.0) |" in markdown


def test_a_base_model_gets_its_scores_printed_and_nothing_written_into_its_folder(
    runs: Runs, tmp_path: Path, colour_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "gpt"
    base.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(runs["fresh"].folder / name, base / name)
    settings = ["data=json", f"data.path={colour_file}", "data.train=0.1", "data.test=0.9", "data.validation=0.0"]
    evaluate(base, *settings, "tasks=[perplexity]")
    assert "nothing was written" in capsys.readouterr().out
    assert sorted(path.name for path in base.iterdir()) == ["config.json", "model.safetensors"]
    evaluate(base, *settings, "tasks=[perplexity]", f"out={tmp_path / 'scores'}")
    assert json.loads((tmp_path / "scores" / "eval.json").read_text(encoding="utf-8"))["checkpoint"] == "gpt"
    assert sorted(path.name for path in base.iterdir()) == ["config.json", "model.safetensors"]


def test_data_that_changed_since_training_is_told(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = learned / "resonance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_fingerprint": "0" * 64}))
    evaluate(learned, "tasks=[perplexity]")
    assert "data has changed since learned was trained" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        (["tasks=[instuct]"], EvalError, "no task 'instuct'; did you mean 'instruct'"),
        (["tasks=[]"], EvalError, "leaves nothing to do; there are "),
        (["suite=ful"], ConfigError, "no suite 'ful'; did you mean 'full'"),
        (["batchsize=3"], ConfigError, "did you mean 'batch_size'"),
        (["task.instruct.max_new_token=3"], ConfigError, "did you mean 'task.instruct.max_new_tokens'"),
        (["compare=[no-such-run]"], CheckpointError, "no checkpoint 'no-such-run'"),
        (["limit=0"], EvalError, "limit must be at least 1, not 0"),
        (["data=json", "data.path=nowhere.json"], Exception, "no file nowhere.json"),
    ],
)
def test_a_mistake_gets_a_sentence(learned: Path, settings: list[str], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        evaluate(learned, *settings)


@pytest.mark.parametrize(
    "target", ["os.system", "data.sources.csv.reader", "data.sources.fingerprint", "data.nothing.Here"]
)
def test_a_checkpoint_from_elsewhere_cannot_make_eval_call_what_it_likes(learned: Path, target: str) -> None:
    (learned / "train.yaml").write_text(f"data:\n  _target_: data.sources.BasicsSource\n  x: {{_target_: {target}}}\n")
    with pytest.raises(EvalError, match=f"would call {re.escape(target)}"):
        evaluate(learned)


@pytest.mark.parametrize("text", ["", "data: 3\n", "[]", "seed: 1\n"])
def test_a_checkpoint_that_names_no_data_asks_for_some(learned: Path, text: str) -> None:
    (learned / "train.yaml").write_text(text)
    with pytest.raises(EvalError, match="data=NAME, of alpaca, basics"):
        evaluate(learned)
