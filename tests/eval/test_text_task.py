"""The text task's perplexity equals a plain computation by transformers, and its records sum up to it."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config as HfConfig
from transformers import GPT2LMHeadModel

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Record
from eval.tasks.text import Text
from resonance.checkpoint import Checkpoint

TEXT = "".join(f"Sentence {i} says that {i} times {i} is {i * i}, isn't it?\n" + "\n" * (i % 3) for i in range(12))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT2LMHeadModel, EvaluatedModel]:
    """A tiny random GPT-2 of transformers, and the same weights in our engine."""
    folder = tmp_path_factory.mktemp("hf") / "tiny"
    torch.manual_seed(0)
    config = HfConfig(n_layer=2, n_head=2, n_embd=32, n_positions=48, initializer_range=0.3)
    hf = GPT2LMHeadModel(config).eval()
    hf.save_pretrained(folder)
    model = EvaluatedModel.load("tiny", Checkpoint.open(folder), batch_size=4, dtype="fp32", quantize=None)
    return hf, model


def plain_nll(hf: GPT2LMHeadModel, ids: list[int], size: int, stride: int) -> list[float]:
    """The nats of each token but the first, one forward pass a window, as in Hugging Face's guide."""
    nats: list[float] = []
    end = 1
    while end < len(ids):
        scored, end = end, min(len(ids), size if end == 1 else end + stride)
        window = torch.tensor([ids[max(0, end - size) : end]])
        with torch.no_grad():
            logprobs = hf(window).logits[0, :-1].log_softmax(-1)
        taken = logprobs.gather(1, window[0, 1:, None])[:, 0]
        nats += (-taken[-(end - scored) :]).tolist()
    return nats


def totals(records: list[Record], metric: str) -> tuple[float, float]:
    pairs = [record.observations[metric] for record in records]
    return sum(a for a, _ in pairs), sum(b for _, b in pairs)


@pytest.mark.parametrize(("window", "stride", "bos"), [(None, None, True), (48, 47, False), (32, 5, True)])
def test_perplexity_equals_a_plain_transformers_computation(
    reference: tuple[GPT2LMHeadModel, EvaluatedModel],
    tmp_path: Path,
    window: int | None,
    stride: int | None,
    bos: bool,
) -> None:
    hf, model = reference
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    task = Text(path=str(file), window=window, stride=stride, bos=bos)
    items = task.items(())
    records = list(task.run(model, items))
    ids = [model.tokenizer.eot_id] * bos + model.tokenizer.encode(TEXT)
    expected = plain_nll(hf, ids, window or 48, stride or 24)
    nats, tokens = totals(records, "perplexity")
    assert tokens == len(expected)
    assert math.exp(nats / tokens) == pytest.approx(math.exp(sum(expected) / len(expected)), rel=1e-4)
    assert totals(records, "word_perplexity") == pytest.approx((nats, len(TEXT.split())))
    first = 0 if bos else len(model.tokenizer.token_bytes(ids[0]))
    assert totals(records, "bits_per_byte") == pytest.approx((nats / math.log(2), len(TEXT.encode()) - first))


def test_each_documents_loss_is_its_own(reference: tuple[GPT2LMHeadModel, EvaluatedModel], tmp_path: Path) -> None:
    hf, model = reference
    texts = ["A short one.", TEXT, "Ein kürzerer — mit Umlauten.\nZwei Zeilen."]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"body": text}) for text in texts), encoding="utf-8")
    task = Text(path=[str(file)], field="body")
    items = task.items(())
    records = list(task.run(model, items))
    assert [record.item for record in records] == [item.id for item in items]
    assert len({item.id for item in items}) == len(items)
    for number, text in enumerate(texts, 1):
        own = [record for record in records if record.cluster == f"texts.jsonl:{number}"]
        ids = [model.tokenizer.eot_id, *model.tokenizer.encode(text)]
        assert totals(own, "perplexity")[0] == pytest.approx(sum(plain_nll(hf, ids, 48, 24)), rel=1e-4)
        assert totals(own, "bits_per_byte")[1] == len(text.encode())


def test_the_rest_of_an_interrupted_evaluation_has_the_same_records(
    reference: tuple[GPT2LMHeadModel, EvaluatedModel], tmp_path: Path
) -> None:
    _, model = reference
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    task = Text(path=str(file))
    items = task.items(())
    whole = list(task.run(model, items))
    rest = list(task.run(model, [items[3], *items[7:]]))
    for record, again in zip([whole[3], *whole[7:]], rest, strict=True):
        assert again.item == record.item
        assert again.observations["perplexity"] == pytest.approx(record.observations["perplexity"], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 49}, "A window of 49 tokens does not fit: .* holds 48"),
        ({"window": 1}, "A window of 1 tokens"),
        ({"window": 16, "stride": 16}, "A stride of 16 tokens must be at least 1 and less than the window, 16"),
        ({"stride": 0}, "A stride of 0 tokens"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    reference: tuple[GPT2LMHeadModel, EvaluatedModel], settings: dict[str, int], message: str
) -> None:
    task = Text(**settings)  # pyright: ignore[reportArgumentType]
    with pytest.raises(EvalError, match=message):
        next(task.run(reference[1], task.items(())))


def test_without_a_file_the_built_in_prose_is_scored() -> None:
    items = Text().items(())
    assert len({item.cluster for item in items}) > 20
    assert all(item.text.strip() for item in items)
