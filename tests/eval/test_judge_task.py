"""The `judge` task, from settings to `eval.json`, with a judge that rules by length."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.example import Example
from eval import EvalError
from eval.evaluate import Evaluation, Result, evaluate
from eval.evaluated_model import EvaluatedModel
from eval.paired import with_pairs
from eval.report.breakdowns import paired_outcomes
from eval.run import main
from eval.tasks.base import Record
from eval.tasks.judge import Judge
from eval.verify import main as verify
from resonance import paths
from resonance.checkpoint import Checkpoint

from ..fake_judge import FakeJudge, fake_judge

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kernels, folder = paths.home() / "kernels", tmp_path / "home"
    kernels.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / "kernels").symlink_to(kernels)  # compiled once
    monkeypatch.setenv("RESONANCE_HOME", str(folder))
    monkeypatch.delenv("JUDGE_API_KEY", raising=False)
    return folder


@pytest.fixture
def judge() -> Iterator[FakeJudge]:
    with fake_judge() as judge:
        yield judge


def task(url: str, **settings: Any) -> Judge:
    quick = {"criteria": "Be right.", "attempts": 2, "backoff": 0.01, "max_new_tokens": 8}
    return Judge(**{"url": url, "model": "rule", **quick, **settings})


def run(judge: Judge, model: EvaluatedModel, examples: Sequence[Example]) -> Result:
    return evaluate(model, {"judge": judge}, examples).results["judge"]


def score(result: Result, name: str, group: str | None = None) -> float:
    return result.metrics()[group, name].value()


def record(item: str, answer: str, expected: str = "none") -> Record:
    return Record(item=item, observations={}, question="What?", answer=answer, expected=expected)


def paired(judge: Judge, ours: Sequence[Record], theirs: Sequence[Record], label: str = "other") -> Result:
    def one(name: str, records: Sequence[Record]) -> Evaluation:
        return Evaluation(name, "fp32", {"judge": Result(judge.metrics, tuple(records))})

    return with_pairs([one("ours", ours), one(label, theirs)], {"judge": judge})[0].results["judge"]


def test_answers_get_the_judges_grades(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    result = run(task(judge.url), model("learned"), examples)
    lengths = [len(example.answer) for example in examples]  # the model knows them all
    assert score(result, "grade") == pytest.approx(10 * sum(lengths) / len(lengths))
    assert score(result, "unreadable") == 0
    assert score(result, "win_rate", "against_expected") == 0.5  # equal answers tie, unasked
    assert len(judge.requests) == len(examples)
    assert {record.group for record in result.records} == {"bright", "dull"}
    assert ("by_family", "dull") in result.metrics()
    first = judge.requests[0]["messages"][0]["content"]
    for part in ("Be right.", "What colour is", "[reference answer", "from 0 (useless) to 100"):
        assert part in first
    assert judge.requests[0]["temperature"] == 0
    assert judge.requests[0]["seed"] == 0
    assert any("The judge is rule-1-2026" in note and "800 tokens" in note for note in result.notes)


def test_the_same_evaluation_again_asks_nothing(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    first = run(task(judge.url), model("fresh"), examples)
    asked = len(judge.requests)
    judge.dies_after = 0
    assert run(task(judge.url), model("fresh"), examples) == first
    assert len(judge.requests) == asked


def test_at_most_so_many_questions_are_asked_the_same_each_time(judge: FakeJudge, examples: list[Example]) -> None:
    items = task(judge.url, questions=3, seed=1).items(examples)
    assert len(items) == 3
    assert task(judge.url, questions=3, seed=1).items(examples) == items
    assert task(judge.url, questions=99).items(examples) == task(judge.url, questions=None).items(examples)


def test_no_endpoint_means_not_run_and_says_why(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.close()
    result = run(task(judge.url), model("learned"), examples)
    assert result.error is not None
    assert re.search(r"The judge at http://127\.0\.0\.1:\d+/v1 did not answer in 2 attempts", result.error)
    assert result.records == ()


def test_a_judge_that_dies_in_the_middle_keeps_what_it_said(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.dies_after = 5
    settings = {"concurrency": 1, "against_expected": False}
    assert "replies so far are kept" in (run(task(judge.url, **settings), model("learned"), examples).error or "")
    judge.dies_after = None
    asked = len(judge.requests)
    assert score(run(task(judge.url, **settings), model("learned"), examples), "unreadable") == 0
    assert len(judge.requests) - asked == len(examples) - 5


def test_a_reply_without_a_grade_is_counted_and_not_scored(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.rule = lambda prompt: "It is a fine answer." if "sky" in prompt else "80"
    result = run(task(judge.url), model("learned"), examples)
    grade = result.metrics()[None, "grade"]
    assert (grade.value(), grade.n) == (80, len(examples) - 1)
    assert score(result, "unreadable") == 1 / len(examples)
    assert "1 verdicts could not be read from the replies and are left out, not counted as 0." in result.notes


def test_a_reply_cut_at_its_limit_asks_for_a_higher_one(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.rule, judge.finish_reason = lambda _: "Let me think", "length"
    result = run(task(judge.url), model("learned"), examples)
    assert any("8 were cut at the token limit, raise task.judge.max_tokens" in note for note in result.notes)


def test_a_question_that_the_judge_refuses_is_left_out(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.faults = [(400, {}, '{"error": {"message": "filtered"}}')]
    result = run(task(judge.url), model("learned"), examples)
    assert result.metrics()[None, "grade"].n == len(examples) - 1
    assert any("refused 1 of 8 requests, the first with: HTTP 400, filtered" in note for note in result.notes)


def test_a_judge_that_refuses_everything_did_not_run(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.faults = [(400, {}, '{"error": {"message": "Unsupported parameter: max_tokens"}}')] * 100
    error = run(task(judge.url), model("learned"), examples).error
    assert error == "The judge refuses all of 8 requests: HTTP 400, Unsupported parameter: max_tokens"


def test_a_judge_that_gives_one_grade_to_everything_is_told(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.rule = lambda _: "85"
    many = [*examples, *examples]
    result = run(task(judge.url), model("learned"), many)
    assert any("gave the grade 85 to 16 of 16 answers: it does not tell answers apart" in note for note in result.notes)


def test_a_grade_asked_several_times_is_the_mean_and_its_spread_is_told(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judge.rule = lambda _: ("70", "80", "no grade")[judge.requests[-1]["seed"]]
    result = run(task(judge.url, repeat=3, concurrency=1), model("learned"), examples)
    assert score(result, "grade") == 75
    assert score(result, "unreadable") == 0
    assert sorted({request["seed"] for request in judge.requests}) == [0, 1, 2]
    assert any(
        "the same answer lie 10.0 points apart on average, and are the same for 0 of 8" in n for n in result.notes
    )


def test_an_empty_answer_loses_without_asking(judge: FakeJudge) -> None:
    ours = [record("a", ""), record("b", ""), record("c", "yes")]
    theirs = [record("a", "no"), record("b", " "), record("c", "")]
    result = paired(task(judge.url), ours, theirs)
    assert [r.observations["against_other.win_rate"][0] for r in result.records] == [0, 0.5, 1]
    assert judge.requests == []


def test_both_orders_are_asked_and_the_better_answer_wins(judge: FakeJudge) -> None:
    ours = [record("a", "a longer answer"), record("b", "short"), record("c", "12345")]
    theirs = [record("a", "answer"), record("b", "much longer"), record("c", "abcde")]
    result = paired(task(judge.url), ours, theirs)
    assert [r.observations["against_other.win_rate"][0] for r in result.records] == [1, 0, 0.5]
    assert score(result, "flip_rate", "against_other") == 0
    assert len(judge.requests) == 6
    assert any(note.startswith("against other: 1 wins, 1 ties (0 of them") for note in result.notes)
    prompts = [request["messages"][0]["content"] for request in judge.requests]
    for first, second in (("a longer answer", "answer"), ("answer", "a longer answer")):
        text = f"[answer A]\n{first}\n[end of answer A]\n\n[answer B]\n{second}\n[end of answer B]"
        assert any(text in prompt for prompt in prompts)
    assert all("[reference answer" in prompt for prompt in prompts)


def test_the_reports_wins_and_losses_are_the_pairs_verdicts(judge: FakeJudge) -> None:
    ours = [record("a", "a longer answer"), record("b", "short"), record("c", "12345")]
    theirs = [record("a", "answer"), record("b", "much longer"), record("c", "abcde")]
    result, other = paired(task(judge.url), ours, theirs), Result(task(judge.url).metrics, tuple(theirs))
    both = [Evaluation("ours", "fp32", {"judge": result}), Evaluation("other", "fp32", {"judge": other})]
    (found,) = paired_outcomes(both)
    assert found.outcomes == {"a": "won", "b": "lost", "c": "neither"}


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_prefers_a_place_flips_and_every_flip_is_a_tie(judge: FakeJudge, place: str) -> None:
    judge.rule = lambda _: place
    many = [(record(str(i), f"ours {i}"), record(str(i), f"theirs {i}")) for i in range(12)]
    result = paired(task(judge.url), *zip(*many, strict=True))
    assert score(result, "win_rate", "against_other") == 0.5
    assert score(result, "flip_rate", "against_other") == 1.0
    assert any("0 wins, 12 ties (12 of them because the verdict changed with the order)" in n for n in result.notes)
    assert any("prefers a place to an answer" in note for note in result.notes)


def test_a_verdict_that_becomes_a_tie_in_the_other_order_is_a_flip(judge: FakeJudge) -> None:
    judge.rule = lambda prompt: "A" if "[answer A]\nours" in prompt else "TIE"
    (found,) = paired(task(judge.url), [record("a", "ours")], [record("a", "theirs")]).records
    assert found.observations["against_other.win_rate"] == (0.5, 1.0)
    assert found.observations["against_other.flip_rate"] == (1.0, 1.0)


def test_a_pair_with_an_unreadable_verdict_is_left_out(judge: FakeJudge) -> None:
    judge.rule = lambda prompt: "A" if "[answer A]\nours" in prompt else "hmm"
    (found,) = paired(task(judge.url), [record("a", "ours")], [record("a", "theirs")]).records
    assert dict(found.observations) == {"against_other.unreadable": (1.0, 1.0)}


def test_a_comparison_replaces_an_earlier_one(judge: FakeJudge) -> None:
    judged = task(judge.url)
    earlier = paired(judged, [record("a", "a longer answer")], [record("a", "short")], "old")
    assert "against_old.win_rate" in earlier.records[0].observations
    later = paired(judged, earlier.records, [record("a", "short")], "new")
    assert set(later.records[0].observations) == {f"against_new.{n}" for n in ("win_rate", "flip_rate", "unreadable")}
    assert not any("against old" in note for note in later.notes)


def test_a_checkpoint_named_like_the_expected_answers_is_not_compared(judge: FakeJudge) -> None:
    result = paired(task(judge.url), [record("a", "ours")], [record("a", "theirs")], "expected")
    assert "cannot be told from the expected answers; rename it" in result.notes[-1]


def test_pairs_that_cannot_be_compared_leave_the_grades(judge: FakeJudge) -> None:
    judge.close()
    ours = [Record("a", {"grade": (50, 1)}, question="What?", answer="ours", expected="x")]
    result = paired(task(judge.url), ours, [record("a", "theirs")])
    assert score(result, "grade") == 50
    assert result.error is None
    assert "judge against other did not run: The judge at" in result.notes[-1]
    assert not any(group == "against_other" for group, _ in result.metrics())


def test_scores_against_each_other_checkpoint_stand_in_eval_json_and_the_report(
    judge: FakeJudge,
    runs: dict[str, Checkpoint],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    learned = Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))
    settings = [f"task.judge.url={judge.url}/", "task.judge.model=rule", "task.judge.api_key_env=MY_KEY"]
    settings += [f"checkpoint={learned}", "tasks=[judge]", "task.judge.max_new_tokens=8", "task.judge.attempts=1"]
    main([*settings, f"compare=[untrained,{runs['fresh'].folder}]"])
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    scores = document["tasks"]["judge"]
    assert set(scores) == {"grade", "unreadable", "by_family", "against_expected", "against_untrained", "against_fresh"}
    assert set(scores["against_fresh"]) == {"win_rate", "flip_rate", "unreadable"}
    told = document["provenance"]["judge"]["judge"]
    assert (told["url"], told["models"], len(told["rubric_sha256"])) == (judge.url, ["rule-1-2026"], 64)
    low, high = scores["grade"]["ci95"]
    assert low < scores["grade"]["value"] < high
    out = capsys.readouterr().out
    assert "judge, against fresh" in out
    assert "sign test p" in out
    assert "judge, against fresh" in (learned / "report.html").read_text(encoding="utf-8")
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    assert judge.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not any(KEY.encode() in content for content in [*kept, out.encode()])

    judge.dies_after = 0  # the same again, from what was kept, and another comparison from the cache
    main([*settings, f"compare=[{runs['fresh'].folder}]"])
    del scores["against_untrained"]
    assert json.loads((learned / "eval.json").read_text(encoding="utf-8"))["tasks"]["judge"] == scores


@pytest.mark.slow
def test_verify_derives_a_judges_scores_again(judge: FakeJudge, runs: dict[str, Checkpoint], tmp_path: Path) -> None:
    learned = Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))
    main([f"checkpoint={learned}", "tasks=[judge]", f"compare=[{runs['fresh'].folder}]", "task.judge.max_new_tokens=8",
          f"task.judge.url={judge.url}", "task.judge.model=rule"])  # fmt: skip
    judge.dies_after = 0  # the replies are kept
    assert verified(learned) == {"scores: judge": "holds", "items: judge": "holds", "rerun: judge": "holds"}
    path = learned / "eval.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["tasks"]["judge"]["against_fresh"]["win_rate"]["value"] -= 0.25
    document["provenance"]["judge"]["metrics"]["against_fresh.wins"] = document["provenance"]["judge"]["metrics"][
        "grade"
    ]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert verified(learned)["scores: judge"] == "does not hold"
    assert verified(learned)["items: judge"] == "does not hold"


def verified(folder: Path) -> dict[str, str]:
    """The outcomes of the claims about the judge."""
    path = folder.parent / "verified.json"
    with contextlib.suppress(SystemExit):
        verify([f"checkpoint={folder}", "server=false", "transformers=false", "rerun=true", f"json={path}"])
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
    return {claim["name"]: claim["outcome"] for claim in claims if claim["name"].endswith(": judge")}


def test_a_judge_that_is_gone_is_not_run_in_eval_json_until_it_is_back(
    judge: FakeJudge, runs: dict[str, Checkpoint], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))
    settings = [f"checkpoint={learned}", "tasks=[judge,perplexity]", "batch_size=1", f"task.judge.url={judge.url}",
                "task.judge.model=rule", "task.judge.attempts=1", "task.judge.concurrency=1"]  # fmt: skip
    judge.dies_after = 5
    main(settings)
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    assert set(document["tasks"]) == {"perplexity"}
    assert "did not answer in one attempt" in document["not_run"]["judge"]
    assert "judge did not run" in capsys.readouterr().out
    judge.dies_after, asked = None, len(judge.requests)
    main(settings)
    document = json.loads((learned / "eval.json").read_text(encoding="utf-8"))
    assert document["tasks"]["judge"]["grade"]["n"] == 8
    assert document["not_run"] == {}
    assert len(judge.requests) - asked == 8 - 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": None}, "task.judge.url is not set: name an OpenAI-compatible endpoint"),
        ({"model": None}, "task.judge.model is not set"),
        ({"url": "ftp://here/v1"}, "task.judge.url is ftp://here/v1, but must start with http:// or https://"),
        ({"url": "127.0.0.1:8000"}, "must start with http:// or https://"),
        ({"url": "http://me:secret@here/v1"}, "task.judge.url must have no user, password, query or fragment"),
        ({"url": "http://here/v1?key=secret"}, "task.judge.url must have no user, password, query or fragment"),
        ({"url": "http://[::1"}, "task.judge.url is no URL"),
        ({"timeout": 0}, "task.judge.timeout must be more than 0 seconds"),
        ({"timeout": None}, "task.judge.timeout must be at least 0, not None"),
        ({"url": 5}, "task.judge.url is 5, but must start with http://"),
        ({"extra": 5}, "task.judge.extra must be fields of a request, such as {top_p: 1.0}, not 5"),
        ({"attempts": 0}, "task.judge.attempts must be at least 1, not 0"),
        ({"concurrency": -1}, "task.judge.concurrency must be at least 1, not -1"),
        ({"max_tokens": 0}, "task.judge.max_tokens must be at least 1, not 0"),
        ({"repeat": 0}, "task.judge.repeat must be at least 1, not 0"),
        ({"questions": 0}, "task.judge.questions must be at least 1, not 0"),
        ({"temperature": -0.1}, "task.judge.temperature must be at least 0, not -0.1"),
        ({"criteria": " "}, "task.judge.criteria is not set: say what a good answer is"),
        ({"extra": {"stream": True}}, "task.judge.extra cannot set 'stream'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EvalError, match=re.escape(sentence)) as caught:
        task(**({"url": "http://here/v1"} | settings))
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_holds_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-a b\n")
    with pytest.raises(EvalError, match="JUDGE_API_KEY holds no API key") as caught:
        task("http://here/v1")
    assert "sk-a" not in str(caught.value)


def test_settings_are_refused_before_anything_runs(runs: dict[str, Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"task\.judge\.url is not set"):
        main(["checkpoint=no-such-run", "tasks=[judge]"])


def test_the_judge_in_the_provenance_is_what_the_endpoint_says(
    judge: FakeJudge, model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    judged = task(judge.url)
    found = judged.provenance(run(judged, model("learned"), examples).records)["judge"]
    assert isinstance(found, dict)
    assert (found["url"], found["models"]) == (judge.url, ["rule-1-2026"])
    other = task(judge.url, criteria="Be short.").provenance([])["judge"]
    assert isinstance(other, dict)
    assert other["rubric_sha256"] != found["rubric_sha256"]
