"""`resonance explain`: gradients of single examples, their cache, and the command."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data.example import Example
from data.sources import FileSource
from data.tokenize import IGNORE
from eval import EvalError
from eval.explain import run
from eval.explain.build_index import gradient_rows, sums_of_rows, tokens_of, write_gradients
from eval.explain.influence import explain
from resonance import lora
from resonance.chat_template import ChatTemplate, Message
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.hydra_config import ConfigError
from resonance.influence.answer import NoAnswer, answer_tokens
from resonance.influence.gradients import ProjectedGradients, padded
from resonance.influence.index import GRADIENTS, IndexWriter, InfluenceIndex, NoIndex, Record
from resonance.lora_layers import LoraConfig
from resonance.model import GPT2, GPT2Config
from resonance.weights import peft

TINY = GPT2Config(vocab_size=97, context_length=24, n_layer=2, n_head=2, n_embd=16, dropout=0.0, initializer_range=0.3)


def rows(count: int) -> list[tuple[list[int], list[int]]]:
    generator = torch.Generator().manual_seed(1)
    made: list[tuple[list[int], list[int]]] = []
    for number in range(count):
        length = 6 + number % 5
        ids = torch.randint(0, 97, (length + 1,), generator=generator).tolist()
        made.append((ids[:-1], [IGNORE] * 3 + ids[4:]))
    return made


def directly(model: GPT2, parameters: Sequence[Tensor], row: tuple[list[int], list[int]]) -> Tensor:
    input_ids, labels = padded([row])
    loss = cross_entropy(model(input_ids)[0], labels[0], ignore_index=IGNORE)
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])


def matrices_of_last_block(model: GPT2) -> list[Tensor]:
    block = model.blocks[-1]
    return [parameter for name, parameter in block.named_parameters() if "norm" not in name and "weight" in name]


def test_unprojected_dot_products_equal_those_of_autograds_gradients() -> None:
    torch.manual_seed(0)
    model = GPT2(TINY)
    expected = torch.stack([directly(model, matrices_of_last_block(model), row) for row in rows(4)])
    found = ProjectedGradients(model, side=None, bf16=False)(*padded(rows(4)))
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=1e-4, atol=1e-6)


def test_projected_cosines_are_near_those_of_autograds_gradients() -> None:
    torch.manual_seed(0)
    model = GPT2(TINY)
    whole = torch.nn.functional.normalize(
        torch.stack([directly(model, matrices_of_last_block(model), row) for row in rows(10)])
    )
    projected = torch.nn.functional.normalize(ProjectedGradients(model, side=64)(*padded(rows(10))))
    difference = projected @ projected.T - whole @ whole.T
    assert difference.abs().max() < 0.12
    assert difference.square().mean().sqrt() < 0.04


def test_with_an_adapter_the_gradients_are_those_of_its_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2(TINY)
    lora.inject(model, LoraConfig(rank=2, alpha=2.0))  # a scaling of 1
    adapted = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    for parameter in adapted:
        torch.nn.init.normal_(parameter, std=0.2)
    expected = torch.stack([directly(model, adapted, row) for row in rows(3)])
    lora.save(model, tmp_path)
    found = ProjectedGradients(lora.plain(model), peft.read(tmp_path), side=None, bf16=False)(*padded(rows(3)))
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=1e-3, atol=1e-5)


def test_a_pair_pulls_towards_its_better_answer_and_away_from_its_worse_one() -> None:
    torch.manual_seed(0)
    template = ChatTemplate.named("alpaca")
    model = GPT2(replace(TINY, vocab_size=50257, context_length=96))
    question = Message("user", "What colour is snow?")
    white, black = (Example((question, Message("assistant", text))) for text in ("white", "black"))
    pair = replace(white, rejected="black")
    gradients = ProjectedGradients(model, side=None, bf16=False)
    one, other, both = sums_of_rows([gradient_rows(e, template, 96) for e in (white, black, pair)], gradients)
    np.testing.assert_allclose(both, one - other, atol=1e-5)


def test_in_bfloat16_and_without_the_kernel_the_gradients_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = GPT2(TINY)
    exact = ProjectedGradients(model, bf16=False)(*padded(rows(10)))
    in_bf16 = ProjectedGradients(model, bf16=True)(*padded(rows(10)))
    assert torch.cosine_similarity(exact, in_bf16).min() > 0.995
    monkeypatch.setattr("resonance.engine.kernels.cross_entropy.kernel", lambda: None)
    torch.testing.assert_close(ProjectedGradients(model, bf16=False)(*padded(rows(10))), exact, rtol=1e-4, atol=1e-6)


def test_an_answer_has_the_tokens_and_labels_that_training_on_it_has() -> None:
    template = ChatTemplate.named("chatml")
    messages = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Who is Ada?"),
                Message("assistant", "A mathematician.")]  # fmt: skip
    whole, newest = (len(tokens_of(part, template, 96, last_only=True)[0]) for part in (messages, messages[2:]))
    for length in (whole, whole - 1, newest - 2):  # all of it, without the oldest turn, cut at its end
        assert answer_tokens(messages, template, length) == tokens_of(messages, template, length, last_only=True)
    with pytest.raises(NoAnswer):
        answer_tokens(messages, template, 3)


def test_an_interrupted_index_is_gone_on_with_and_equals_one_made_at_once(
    tmp_path: Path, runs: dict[str, Checkpoint], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.explain.build_index.TOKENS", 80)  # two examples a batch
    monkeypatch.setattr("eval.explain.build_index.SAVE_EVERY", 1)
    model, template = runs["learned"].load_model(), runs["learned"].template()
    shares: list[float] = []

    def stop_halfway(done: int, total: int) -> None:
        shares.append(done / total)
        if done >= total / 2:
            raise KeyboardInterrupt

    def make(folder: Path, on_progress: Callable[[int, int], None]) -> bytes:
        record = Record(1, "w", "d", "the last block", 8, len(examples), len(examples))
        writer = IndexWriter(folder, record, [{} for _ in examples])
        write_gradients(writer, examples, ProjectedGradients(model, side=8), template, 96, on_progress=on_progress)
        return (folder / GRADIENTS).read_bytes()

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", stop_halfway)
    stopped_at = shares[-1]
    shares.clear()
    again = make(tmp_path / "killed", lambda done, total: shares.append(done / total))
    assert shares[0] == stopped_at > 0 and shares[-1] == 1
    assert again == make(tmp_path / "whole", lambda done, total: None)


def run_on(runs: dict[str, Checkpoint], colours: Path, folder: Path) -> Checkpoint:
    """A copy of the learned run that was trained on all questions."""
    shutil.copytree(runs["learned"].folder, folder)
    node = f"  path: {colours}\n  train: 1.0\n  test: 0.0\n  validation: 0.0\n  shuffle: false\n"
    (folder / "train.yaml").write_text(f"data:\n  _target_: data.sources.FileSource\n{node}", encoding="utf-8")
    return Checkpoint.open(folder)


def test_the_command_ranks_the_example_that_taught_the_answer_first(
    tmp_path: Path, runs: dict[str, Checkpoint], colour_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(runs, colour_file, tmp_path / "learned")
    words = ["checkpoint=learned", f"root={tmp_path}", "prompt='What colour is coal?'", "answer=black", "count=3"]
    run.main([*words, "json=true"])
    found = json.loads(capsys.readouterr().out)
    assert found["checkpoints_used"] == ["learned"]
    assert found["training_examples"] == found["examples_compared"] == 9
    assert [one["rank"] for one in found["influences"]] == [1, 2, 3]
    first = found["influences"][0]
    assert (first["prompt"], first["answer"]) == ("What colour is coal?", "black")
    assert first["score"] == pytest.approx(1, abs=0.01)
    run.main(words)
    table = capsys.readouterr().out
    assert InfluenceIndex.open(Checkpoint.open(tmp_path / "learned")).record.examples == 9
    assert "What colour is coal?" in table and "at the weights of learned alone" in table


def test_the_second_question_reads_the_index_and_not_the_data(
    tmp_path: Path, runs: dict[str, Checkpoint], colour_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_on(runs, colour_file, tmp_path / "learned")
    run_ = Checkpoint.open(tmp_path / "learned").record(
        data_fingerprint=FileSource(str(colour_file), train=1.0, test=0.0, validation=0.0, shuffle=False).fingerprint()
    )
    asked = (Message("user", "What colour is coal?"), Message("assistant", "black"))
    first = explain(run_, asked, side=16)
    monkeypatch.setattr("eval.explain.build_index.training_examples", None)
    assert explain(run_, asked, side=16) == first
    assert explain(run_, asked, side=16, examples=3) == first  # an index of all is better than one of three


def test_an_index_of_some_examples_says_so_and_gives_way_to_one_of_all(
    tmp_path: Path, runs: dict[str, Checkpoint], colour_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on(runs, colour_file, tmp_path / "learned")
    words = [f"root={tmp_path}", "checkpoint=learned", "prompt='What colour is coal?'", "answer=black", "projection=8"]
    run.main([*words, "examples=3"])
    shown = capsys.readouterr().out
    assert "among 3 training examples, drawn at random from 9" in shown
    run.main(words)
    assert "among 9 training examples." in capsys.readouterr().out


def test_an_index_of_other_weights_is_not_read(tmp_path: Path, runs: dict[str, Checkpoint], colour_file: Path) -> None:
    learned = run_on(runs, colour_file, tmp_path / "learned")
    with pytest.raises(NoIndex, match="learned has no index of its training examples; `resonance explain learned"):
        InfluenceIndex.open(learned)
    explain(learned, (Message("user", "What colour is coal?"), Message("assistant", "black")), side=8)
    shutil.copy(runs["fresh"].folder / "model.safetensors", learned.folder)
    with pytest.raises(NoIndex, match="is of other weights"):
        InfluenceIndex.open(Checkpoint.open(learned.folder))


def test_a_judgement_is_shown_with_the_conversation_and_the_person_that_it_comes_from(
    tmp_path: Path, runs: dict[str, Checkpoint]
) -> None:
    row = {
        "kind": "example", "split": "train", "origin": "correction", "owner": "ada", "conversation": "c1", "id": "m1",
        "at": "2026-11-01T00:00:00Z", "answered_by": "demo",
        "messages": [{"role": "user", "content": "What colour is tar?"}, {"role": "assistant", "content": "black"}],
    }  # fmt: skip
    file = tmp_path / "feedback.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    shutil.copytree(runs["learned"].folder, tmp_path / "candidate")
    yaml = f"data:\n  _target_: data.feedback.FeedbackSource\n  path: {file}\n  learn: examples\n"
    (tmp_path / "candidate" / "train.yaml").write_text(yaml, encoding="utf-8")
    asked = (Message("user", "What colour is coal?"), Message("assistant", "black"))
    (one,) = explain(Checkpoint.open(tmp_path / "candidate"), asked, side=16).influences
    assert one["kind"] == "correction"
    assert one["provenance"] == {
        "conversation": "c1", "id": "m1", "owner": "ada", "at": "2026-11-01T00:00:00Z", "answered_by": "demo"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        ([], ConfigError, "Say which answer"),
        (["prompt=a"], ConfigError, "Say which answer"),
        (["message=m"], ConfigError, "message=m needs conversation=ID"),
        (["conversation=c", "prompt=a"], ConfigError, "leave out prompt="),
        (["prompt=a", "answer=b", "count=0"], ConfigError, "count must be a whole number from 1 to 1000, not 0"),
        (["prompt=a", "answer=b", "projection=4"], ConfigError, "projection must be a whole number from 8"),
        (["prompt=a", "answer=''"], NoAnswer, "The answer is empty"),
        (["prompt=a", "answer=b", "examples=0"], ConfigError, "examples must be a whole number from 1"),
        (["prompt=a", "answer=b", "checkpoint=nowhere"], ResonanceError, "There is no checkpoint 'nowhere'"),
        pytest.param(
            ["conversation=c", "store.url='sqlite+aiosqlite:////nowhere/x'"], EvalError, "There is no database",
            marks=pytest.mark.slow,  # starts `resonance feedback`
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_in_one_sentence(
    tmp_path: Path,
    runs: dict[str, Checkpoint],
    colour_file: Path,
    words: list[str],
    error: type[ResonanceError],
    sentence: str,
) -> None:
    run_on(runs, colour_file, tmp_path / "learned")
    with pytest.raises(error, match=sentence) as raised:
        run.main([f"root={tmp_path}", *words])
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) == 1
