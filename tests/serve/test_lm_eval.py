"""lm-evaluation-harness itself over HTTP: its `local-completions` gets the numbers that the model gives in process."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from resonance.checkpoint import Checkpoint
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

REASON = "lm-evaluation-harness is not installed (extra `lm-eval`)"
lm_eval = pytest.importorskip("lm_eval", reason=REASON)
tasks = pytest.importorskip("lm_eval.tasks", reason=REASON)
completions = pytest.importorskip("lm_eval.models.openai_completions", reason=REASON)

pytestmark = pytest.mark.slow

WINDOW = 48  # tokens: the long text takes several
QUESTIONS = [
    {"question": "The capital of France is", "choices": ["Paris", "a town far away", "Rome"], "answer": 0},
    {"question": "Two and two make ", "choices": ["four", "five"], "answer": 0},
    {"question": "Naïve café, 数学 and 🙂:", "choices": ["text", "数", "🙂🙂"], "answer": 1},
    {"question": "", "choices": ["Once upon a time", "\n\n"], "answer": 0},
]
TEXTS = [
    {"text": "A short text."},
    {"text": "A long text that goes on and on, from the first window into the next. " * 12},
    {"text": "Ünïcode ✓ 文字 " * 5},
]
CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
PERPLEXITY = """
task: texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""


class InProcess(completions.LocalCompletionsAPI):
    """The harness' own client, which asks the training forward where it would ask a server."""

    def __init__(self, checkpoint: Checkpoint, **settings: object) -> None:
        super().__init__(**settings)
        self._gpt2 = checkpoint.load_model(torch.float32).eval()

    @torch.inference_mode()
    def _loglikelihood_tokens(self, requests, **_):
        found = []
        for _, context, continuation in requests:
            ids = torch.tensor([[*context, *continuation][-self.max_length :]])
            logprobs = self._gpt2(ids)[0, -len(continuation) - 1 : -1].log_softmax(-1)
            wanted = torch.tensor(continuation)
            chosen = logprobs.gather(-1, wanted[:, None])
            found.append((chosen.sum().item(), bool((logprobs.argmax(-1) == wanted).all())))
        return found


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """`plain` has random weights; to `ending` the end of the text is always what comes next."""
    root = tmp_path_factory.mktemp("scored")
    made = {}
    for name in ("plain", "ending"):
        torch.manual_seed(0)
        model = GPT2(GPT2Config(context_length=128, n_layer=2, n_head=2, n_embd=32))
        if name == "ending":
            with torch.no_grad():
                model.norm.bias.fill_(1.0)
                model.token_embedding.weight[Tokenizer.gpt2().eot_id].fill_(0.5)
        made[name] = Checkpoint.save(root / name, model, Tokenizer.gpt2())
    return made


@pytest.fixture(scope="module")
def endpoint(checkpoints: dict[str, Checkpoint], launch: Callable) -> str:
    folders = ",".join(str(checkpoint.folder) for checkpoint in checkpoints.values())
    return f"{launch(f'checkpoint=[{folders}]').base}/v1/completions"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tasks and their data, since nothing can be downloaded."""
    folder = tmp_path_factory.mktemp("suite")
    for name, task, rows in (("choices", CHOICES, QUESTIONS), ("texts", PERPLEXITY, TEXTS)):
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(task.format(file=file))
    return folder


def evaluate(model: object, suite: Path) -> tuple[list[float], list[bool], dict[str, float]]:
    """Every loglikelihood, whether it was greedy, and the scores."""
    manager = tasks.TaskManager(include_path=str(suite), include_defaults=False)
    done = lm_eval.simple_evaluate(model=model, tasks=["choices", "texts"], task_manager=manager, bootstrap_iters=0)
    values, greedy = [], []
    for sample in done["samples"]["choices"]:
        for ((value, is_greedy),) in sample["resps"]:
            values.append(float(value))
            greedy.append(is_greedy in (True, "True"))
    for sample in done["samples"]["texts"]:
        values += [float(value) for (value,) in sample["resps"]]
    scores = {
        f"{task}/{name}": value
        for task, metrics in done["results"].items()
        for name, value in metrics.items()
        if isinstance(value, float)
    }
    return values, greedy, scores


@pytest.mark.parametrize("name", ["plain", "ending"])
@pytest.mark.parametrize("how", [{"batch_size": 1}, {"batch_size": 8}, {"num_concurrent": 4}])
def test_the_harness_gets_the_models_own_numbers(
    checkpoints: dict[str, Checkpoint], endpoint: str, suite: Path, name: str, how: dict[str, object]
) -> None:
    settings = {
        "model": name,
        "base_url": endpoint,
        "tokenizer": str(checkpoints[name].folder),
        "tokenizer_backend": "huggingface",
        "max_length": WINDOW,
        **how,
    }
    values, greedy, scores = evaluate(completions.LocalCompletionsAPI(**settings), suite)
    expected_values, expected_greedy, expected_scores = evaluate(InProcess(checkpoints[name], **settings), suite)
    assert len(values) == sum(len(row["choices"]) for row in QUESTIONS) + len(TEXTS)
    assert values == pytest.approx(expected_values, abs=1e-3)
    assert greedy == expected_greedy
    assert len(scores) >= 4
    assert scores == pytest.approx(expected_scores, rel=1e-4)
