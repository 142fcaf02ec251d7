"""Tasks of lm-evaluation-harness in `resonance eval`, on made-up items in local files."""

import json
from pathlib import Path
from shutil import copytree

import pytest

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.run import main
from resonance.checkpoint import Checkpoint

REASON = "lm-evaluation-harness is not installed (extra `lm-eval`)"
lm_eval = pytest.importorskip("lm_eval", reason=REASON)

pytestmark = pytest.mark.slow  # `make test-slow` installs the harness

HELLASWAG = {"activity_label": "Cooking", "ctx_a": "A man cuts bread.", "ctx_b": "he", "label": "2"}
ENDINGS = ["eats the knife.", "sings.", "puts butter on it.", "flies away."]
ITEMS: dict[str, list[dict[str, object]]] = {
    "lambada_openai": [{"text": "the cat sat on the mat"}, {"text": "a bird in the hand is worth two in the bush"}],
    "hellaswag": [HELLASWAG | {"endings": ENDINGS}, HELLASWAG | {"endings": ENDINGS[::-1], "label": "1"}],
    "piqa": [
        {"goal": "Dry a cup", "sol1": "Use a towel.", "sol2": "Use a lake.", "label": 0},
        {"goal": "Light a room", "sol1": "Close your eyes.", "sol2": "Switch on a lamp.", "label": 1},
    ],
    "piqa.train": [{"goal": f"Do thing {i}", "sol1": "So.", "sol2": "Or so.", "label": i % 2} for i in range(5)],
    "arc_easy": [
        {"question": "What melts?", "choices": {"text": ["ice", "wood"], "label": ["A", "B"]}, "answerKey": "A"},
        {"question": "What burns?", "choices": {"text": ["ice", "wood"], "label": ["1", "2"]}, "answerKey": "2"},
    ],
    "wikitext": [{"page": " = A title = \n \n A long page , about nothing . \n" * 9}, {"page": " Short . "}],
    "ifeval": [
        {"key": 1, "prompt": "Say no.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {
            "key": 2,
            "prompt": "Write much.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "kwargs": [{}, {"relation": "at least", "num_words": 300}],
        },
    ],
    "boolq": [
        {"question": "is ice cold", "passage": "Ice is cold.", "label": 1},
        {"question": "is ice hot", "passage": "Ice is cold.", "label": 0},
    ],
}
NAMED = ["lambada_openai", "hellaswag", "piqa", "arc_easy", "wikitext", "ifeval"]
OWN_TASK = """
task: my_colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: mcc}}]
metadata: {{version: 3}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    for name, rows in ITEMS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture
def learned(runs: dict[str, Checkpoint], tmp_path: Path) -> Path:
    """A copy of the run to write scores into."""
    return Path(copytree(runs["learned"].folder, tmp_path / "learned"))


def evaluate(folder: Path, *settings: str) -> dict[str, dict[str, dict[str, float]]]:
    main([f"checkpoint={folder}", "tasks=[]", "dtype=fp32", *settings])
    return json.loads((folder / "eval.json").read_text(encoding="utf-8"))["tasks"]


def test_the_named_benchmarks_score_as_the_harness_itself_scores_them(
    learned: Path, data: Path, runs: dict[str, Checkpoint]
) -> None:
    from eval.harness.definitions import find, load
    from eval.harness.lm import EngineLM

    scores = evaluate(
        learned, f"harness=[{','.join(NAMED)}]", f"harness_data={data}", "harness_gen_kwargs={max_gen_toks:16}"
    )
    assert list(scores) == NAMED
    model = EvaluatedModel.load("learned", runs["learned"], batch_size=2, dtype="fp32", quantize=None)
    done = lm_eval.simple_evaluate(
        model=EngineLM(model),
        tasks=[load(definition, data, few_shot=False) for definition in find(NAMED)],
        gen_kwargs={"max_gen_toks": 16},
        bootstrap_iters=0,
    )
    for name in NAMED:
        expected = {
            key.removesuffix(",none"): value
            for key, value in done["results"][name].items()
            if key.endswith(",none") and isinstance(value, int | float)
        }
        assert {metric: score["value"] for metric, score in scores[name].items()} == pytest.approx(expected, rel=1e-5)
        assert all(score["ci95"][0] <= score["value"] <= score["ci95"][1] for score in scores[name].values())
        records = [json.loads(line) for line in (learned / "eval" / f"{name}.jsonl").read_text().splitlines()]
        assert len(records) == len(ITEMS[name])
    assert done["versions"]["wikitext"] == 2.0


def test_a_record_says_what_was_asked_answered_and_expected(learned: Path, data: Path) -> None:
    evaluate(learned, "harness=[piqa]", f"harness_data={data}", "harness_limit=1")
    (record,) = [json.loads(line) for line in (learned / "eval" / "piqa.jsonl").read_text().splitlines()]
    assert record["question"] == "Question: Dry a cup\nAnswer:"
    assert record["expected"] == "Use a towel."
    assert record["answer"] in ("Use a towel.", "Use a lake.")
    assert record["correct"] == (record["answer"] == record["expected"])
    assert len(record["details"]["responses"]) == 2


def test_few_shot_examples_and_the_chat_template_change_the_prompt(learned: Path, data: Path) -> None:
    settings = ("harness=[piqa]", f"harness_data={data}", "harness_num_fewshot=2")
    evaluate(learned, *settings)
    path = learned / "eval" / "piqa.jsonl"
    plain = json.loads(path.read_text().splitlines()[0])["question"]
    assert plain.count("Question: Do thing") == 2
    assert plain.endswith("\n\nQuestion: Dry a cup\nAnswer:")
    evaluate(learned, *settings, "harness_chat_template=true")
    chat = json.loads(path.read_text().splitlines()[0])["question"]
    assert chat.count("### Instruction:\nQuestion: Do thing") == 2
    assert chat.endswith("### Instruction:\nQuestion: Dry a cup\nAnswer:\n\n### Response:\n")


def test_a_harness_task_without_a_definition_of_ours_reads_local_items_too(learned: Path, data: Path) -> None:
    assert evaluate(learned, "harness=[boolq]", f"harness_data={data}")["boolq"]["acc"]["n"] == 2


def test_a_users_own_task_runs_and_says_what_has_no_interval(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"What colour is {n}?", "choices": ["red", "blue"], "answer": n % 2} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "colours.yaml").write_text(OWN_TASK.format(file=tmp_path / "rows.jsonl"))
    scores = evaluate(learned, "harness=[my_colours]", f"harness_include_path={tmp_path / 'mine'}")
    assert set(scores["my_colours"]) == {"acc"}
    assert scores["my_colours"]["acc"]["n"] == 4
    assert "my_colours: mcc" in capsys.readouterr().out


def test_a_task_whose_data_cannot_be_had_is_named_and_the_others_run(
    learned: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "piqa.jsonl").write_text((data / "piqa.jsonl").read_text())
    (tmp_path / "arc_easy.jsonl").write_text('{"question": "?", "choices": {}}\n')
    (tmp_path / "wikitext.jsonl").write_text('{"page": "a"}\n{"page"\n')
    scores = evaluate(learned, "harness=[hellaswag,arc_easy,wikitext,piqa]", f"harness_data={tmp_path}")
    assert list(scores) == ["piqa"]
    out = " ".join(capsys.readouterr().out.split())
    assert "hellaswag did not run: " in out
    assert "has no hellaswag.jsonl" in out
    assert f"line 1 of {tmp_path}/arc_easy.jsonl has no 'answerKey'" in out
    assert f"line 2 of {tmp_path}/wikitext.jsonl is no JSON" in out


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["harness=[hellasweg]"], "The harness has no task 'hellasweg'; did you mean 'hellaswag'?"),
        (["harness=[piqa]", "harness_limit=0"], "harness_limit must be a whole number of at least 1, not 0"),
        (["harness=[piqa]", "harness_num_fewshot=many"], "harness_num_fewshot must be a whole number"),
        (["harness=[piqa]", "harness_gen_kwargs=fast"], "harness_gen_kwargs must be settings like"),
        (["harness=[piqa]", "harness_include_path=/nowhere"], "harness_include_path=/nowhere is no folder"),
        (["tasks=[samples]", "harness_limit=5"], "harness_limit=5 has no effect without harness="),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(learned: Path, settings: list[str], sentence: str) -> None:
    with pytest.raises(EvalError, match=sentence.replace("[", r"\[").replace("?", r"\?")):
        evaluate(learned, *settings)
    assert not (learned / "eval.json").exists()
