"""The harness's own `hf` model and ours give equal numbers on the same weights."""

import json
from pathlib import Path

import pytest
import torch

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

REASON = "lm-evaluation-harness is not installed (extra `lm-eval`)"
lm_eval = pytest.importorskip("lm_eval", reason=REASON)
tasks = pytest.importorskip("lm_eval.tasks", reason=REASON)
pytest.importorskip("accelerate", reason=REASON)

pytestmark = pytest.mark.slow  # `make test-slow` installs the harness

WINDOW = 64  # tokens: the long texts take several windows, and long questions are cut from the left
CHOICES = [
    {"question": "The capital of France is", "choices": ["Paris", "a town far away", "Rome"], "answer": 0},
    {"question": "Two and two make ", "choices": ["four", "five"], "answer": 0},
    {"question": "Naïve café, 数学 and 🙂:", "choices": ["text", "数", "🙂🙂"], "answer": 1},
    {"question": "", "choices": ["Once upon a time", "Never"], "answer": 0},
    {"question": "A very long question indeed. " * 20, "choices": ["yes", "no, not at all", "maybe"], "answer": 1},
    {"question": "An end <|endoftext|> and a start:", "choices": ["A", "B", "C", "D"], "answer": 2},
]
SENTENCES = [
    {"text": "the rain in spain falls mainly on the plain"},
    {"text": "my cat sat on the mat"},
    {"text": "one two three four five six seven eight nine ten"},
]
TEXTS = [
    {"text": "A short text."},
    {"text": "A long text that goes on and on, from the first window into the next. " * 12},
    {"text": "Ünïcode ✓ 文字 " * 9},
]
QUESTIONS = [
    {"question": "Say something:", "answer": "x"},
    {"question": "A very long question that does not fit. " * 12, "answer": "y"},
    {"question": "数学?", "answer": "z"},
]
TASKS = {
    "made_choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_mutual_info}]
""",
    "made_last_word": """
output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "made_rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "made_generation": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["STOP"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}
ROWS = {"made_choice": CHOICES, "made_last_word": SENTENCES, "made_rolling": TEXTS, "made_generation": QUESTIONS}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Random weights, large enough that answers differ from question to question."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(context_length=WINDOW, n_layer=2, n_head=2, n_embd=32, dropout=0.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Checkpoint.save(tmp_path_factory.mktemp("random") / "tiny", model, Tokenizer.gpt2(), Metadata())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up tasks of each kind, with their data."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, yaml in TASKS.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]), encoding="utf-8")
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {file}}}}}\ntest_split: test\n"
        (folder / f"{name}.yaml").write_text(head + yaml, encoding="utf-8")
    return folder


def evaluate(model: object, folder: Path, **settings: object) -> tuple[dict[str, float], dict[str, list[object]]]:
    """All scores, and the model's response to each request."""
    manager = tasks.TaskManager(include_path=str(folder), include_defaults=False)
    done = lm_eval.simple_evaluate(
        model=model, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, num_fewshot=0, **settings
    )
    scores = {
        f"{task}/{name}": value
        for task, metrics in done["results"].items()
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
    return scores, {task: [sample["resps"] for sample in samples] for task, samples in done["samples"].items()}


@pytest.fixture(scope="module")
def ours(checkpoint: Checkpoint) -> object:
    from eval.harness.lm import EngineLM

    return EngineLM(EvaluatedModel.load("tiny", checkpoint, batch_size=3, dtype="fp32", quantize=None))


@pytest.fixture(scope="module")
def theirs(checkpoint: Checkpoint) -> object:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(checkpoint.folder), device="cpu", dtype="float32", batch_size=2)


def test_our_model_gets_the_numbers_of_the_harness_own_hf_model(ours: object, theirs: object, folder: Path) -> None:
    scores, responses = evaluate(ours, folder)
    expected_scores, expected_responses = evaluate(theirs, folder)
    assert len(scores) >= 3 + 2 + 3 + 1
    assert scores == pytest.approx(expected_scores, rel=1e-4)
    assert {task: len(rows) for task, rows in responses.items()} == {task: len(rows) for task, rows in ROWS.items()}
    for task in TASKS:
        for row, expected_row in zip(responses[task], expected_responses[task], strict=True):
            for (response,), (expected,) in zip(row, expected_row, strict=True):
                if task == "made_generation":
                    assert response == expected
                elif task == "made_rolling":
                    assert float(response) == pytest.approx(float(expected), rel=1e-4)
                else:
                    assert float(response[0]) == pytest.approx(float(expected[0]), rel=1e-4)
                    assert str(response[1]) == str(expected[1])
    assert len({str(row) for row in responses["made_generation"]}) == len(QUESTIONS)  # answers that differ


def generated(model: object, until: list[str], questions: list[str], **settings: object) -> list[str]:
    from lm_eval.api.instance import Instance

    kwargs = {"until": until, "max_gen_toks": 24, **settings}
    requests = [Instance("generate_until", {}, (question, dict(kwargs)), 0) for question in questions]
    return model.generate_until(requests, disable_tqdm=True)


def test_both_models_stop_before_the_same_strings(ours: object, theirs: object) -> None:
    questions = [str(row["question"]) for row in QUESTIONS]
    whole = generated(ours, [], questions)
    until = [whole[0][9:12], whole[1][20:]]
    stopped = generated(ours, until, questions)
    assert stopped == generated(theirs, until, questions)
    assert stopped[0] == whole[0].split(until[0])[0] != whole[0]


def test_a_chat_prompt_gets_the_answer_that_the_hf_model_gives(ours: object, theirs: object) -> None:
    messages = [{"role": "user", "content": "Who are you?"}]
    continued = [*messages, {"role": "assistant", "content": "I am"}]
    prompts = [
        [model.apply_chat_template(messages), model.apply_chat_template(continued, add_generation_prompt=False)]
        for model in (ours, theirs)
    ]
    assert prompts[0] == prompts[1]
    assert generated(ours, [], prompts[0]) == generated(theirs, [], prompts[1])


def test_an_answer_after_a_chat_prompt_is_encoded_as_in_training(ours: object, checkpoint: Checkpoint) -> None:
    template = checkpoint.template()
    prompt = ours.apply_chat_template([{"role": "user", "content": "Who are you?"}])
    context, continuation = ours._encode_pair(prompt, "I am a model.")
    messages = [Message("user", "Who are you?"), Message("assistant", "I am a model.")]
    assert [*context, *continuation, template.end_id] == template.render(messages).input_ids


def test_sampled_answers_repeat_with_the_seed_and_differ_between_repeats(ours: object) -> None:
    sampling = {"do_sample": True, "temperature": 1.0, "top_p": 0.95}
    once = generated(ours, [], ["Say something:"] * 3, **sampling)
    assert once == generated(ours, [], ["Say something:"] * 3, **sampling)
    assert len(set(once)) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_beams": 4}, "does not have the generation setting num_beams=4"),
        ({"do_sample": True}, "do_sample=true needs a temperature above 0"),
        ({"max_gen_toks": WINDOW}, f"max_gen_toks={WINDOW} leaves no room for the question"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(ours: object, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(EvalError, match=sentence):
        generated(ours, [], ["Say something:"], **settings)
