"""The data module: contents and order of batches, and resuming."""

from collections import Counter
from itertools import islice

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from data import DataError
from data import module as data_module
from data.example import Example, Splits
from data.loader import collate
from data.module import SFTDataModule
from data.sources import BasicsSource, Source
from data.tokenize import IGNORE, tokenize
from resonance.chat_template import ChatTemplate, Message

TEMPLATE = ChatTemplate.named("chatml")
SOURCE = BasicsSource(train_size=120, validation_size=25, test_size=25)


class ListSource(Source):
    name = "a list"

    def __init__(self, train, validation=(), test=()):
        self._examples = Splits(list(train), list(validation), list(test))

    def read(self):
        return self._examples


def module(source=SOURCE, **changes):
    settings = {"context_length": 256, "batch_size": 4, "seed": 7} | changes
    return SFTDataModule(source, TEMPLATE, **settings)


def documents(batch):
    """The token ids of each example in a batch."""
    found = []
    for ids, owners in zip(batch["input_ids"], batch["document_ids"], strict=True):
        found += [tuple(ids[owners == document].tolist()) for document in owners.unique().tolist() if document >= 0]
    return found


def epoch(data, number=0):
    length = data.epoch_length
    return list(islice(data.train_dataloader(), number * length, (number + 1) * length))


@pytest.mark.parametrize("packing", [True, False])
def test_an_epoch_holds_every_example_once(packing):
    data = module(packing=packing, context_length=512)
    given = Counter()
    for example in SOURCE.splits().train:
        ids = TEMPLATE.render(example.messages).input_ids
        given[tuple(ids[:-2])] += 1  # without the last end token, which has no target, and the line's end
    seen = Counter(ids for batch in epoch(data) for ids in documents(batch))
    assert seen == given


@pytest.mark.parametrize("packing", [True, False])
def test_positions_restart_with_each_example_and_padding_is_marked(packing):
    for batch in epoch(module(packing=packing)):
        assert set(batch) == {"input_ids", "labels", "position_ids", "document_ids"}
        assert {(values.shape, values.dtype) for values in batch.values()} == {(batch["labels"].shape, torch.int64)}
        padding = batch["document_ids"] == -1
        assert (batch["labels"][padding] == IGNORE).all()
        for owners, places in zip(batch["document_ids"], batch["position_ids"], strict=True):
            for document in owners.unique().tolist():
                if document >= 0:
                    mine = places[owners == document]
                    assert mine.tolist() == list(range(len(mine)))


def test_a_label_is_the_next_token_of_the_same_example():
    for batch in epoch(module()):
        rows, places = (batch["labels"] != IGNORE).nonzero(as_tuple=True)
        inside = places + 1 < batch["input_ids"].shape[1]
        rows, places = rows[inside], places[inside]
        same = batch["document_ids"][rows, places] == batch["document_ids"][rows, places + 1]
        rows, places = rows[same], places[same]
        assert len(rows) > 50
        assert (batch["labels"][rows, places] == batch["input_ids"][rows, places + 1]).all()


def test_a_packed_row_has_the_length_asked_for():
    assert {batch["input_ids"].shape[1] for batch in epoch(module(row_length=300))} == {300}


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, number):
        return [batch["input_ids"].tolist() for batch in epoch(module(seed=seed), number)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert len(order(1, 0)) == len(order(1, 1)) == module(seed=1).epoch_length


def test_validation_is_the_same_each_time_and_whole():
    loader = module().val_dataloader()
    once, again = ([batch["input_ids"].tolist() for batch in loader] for _ in range(2))
    assert once == again
    assert sum(len(documents(batch)) for batch in loader) == 25


def test_validation_batches_are_made_one_by_one_so_that_memory_does_not_hold_them(monkeypatch):
    made = []
    monkeypatch.setattr(data_module, "collate", lambda *arguments: made.append(collate(*arguments)) or made[-1])
    loader = module(batch_size=1).val_dataloader()
    assert len(loader) > 2
    assert made == []
    next(iter(loader))
    assert len(made) == 1


def test_the_report_tells_what_is_trained_on():
    report = module().report
    assert report.train.used == 120
    assert report.batches == module().epoch_length
    assert 0.8 < report.filled <= 1
    assert "basics: train 120 of 120 examples" in str(report)
    assert module(packing=False).report.rows == 120


def question(text, answer="Yes.", row=None):
    return Example((Message("user", text), Message("assistant", answer)), row=row)


def test_what_validation_or_test_ask_is_left_out_of_training_and_told():
    train = [question(f"Question {i}?", row=i + 10) for i in range(6)]
    source = ListSource(train, [question("question  2?", "No.")], [question("Question 4?"), question("Other?")])
    data = module(source)
    assert data.report.train.used == 4
    assert data.report.train.skipped == {"asked by validation or test as well": 2}
    texts = [TEMPLATE.tokenizer.decode(list(ids)) for batch in epoch(data) for ids in documents(batch)]
    assert not [text for text in texts if "Question 2" in text or "Question 4" in text]
    report = str(data.report)
    assert "2 skipped: asked by validation or test as well (rows 12 and 14)" in report
    assert "1 training examples ask what validation asks and are left out of training: row 12 'Question 2?'" in report
    assert "1 training examples ask what test asks and are left out of training: row 14 'Question 4?'" in report


def test_training_examples_that_repeat_one_another_are_told_and_kept():
    data = module(ListSource([question(text) for text in ("One?", "Two?", "One? ", "Three?", "one?")]))
    assert data.report.train.used == 5
    report = "2 training examples repeat an earlier one and are kept: example 3 repeats example 1, example 5 repeats"
    assert report in str(data.report)


def test_data_that_is_held_out_altogether_is_refused():
    with pytest.raises(DataError, match="All 3 training examples of a list are asked by validation or test"):
        module(ListSource([question("Who?")] * 3, [question("Who?")])).setup()


def test_a_state_from_before_held_out_examples_were_left_out_is_not_continued():
    data = module(ListSource([question(f"Question {i}?") for i in range(9)], [question("Question 1?")]))
    state = data.train_dataloader().state_dict()
    assert state["settings"].pop("held_out") == 1
    with pytest.raises(DataError, match="held_out was None and is 1"):
        data.train_dataloader().load_state_dict(state)


def test_a_state_from_before_rows_were_packed_best_fit_is_not_continued():
    state = module().train_dataloader().state_dict()
    assert state["settings"].pop("packing") == "best-fit"
    with pytest.raises(DataError, match="packing was None and is best-fit"):
        module().train_dataloader().load_state_dict(state)
    assert "packing" not in module(packing=False).train_dataloader().state_dict()["settings"]


def test_a_batch_tells_which_examples_it_holds():
    train = [question("Who?", " "), *(question(f"Question {i}?") for i in range(9))]
    for packing in (True, False):
        for batch in epoch(module(ListSource(train), packing=packing)):
            for i in batch["document_ids"].unique().tolist():
                if i >= 0:
                    ids = batch["input_ids"][batch["document_ids"] == i].tolist()
                    assert train[i].messages[0].content in TEMPLATE.tokenizer.decode(ids)


def test_data_that_would_train_on_nothing_is_refused():
    nothing = Example((Message("user", "Who?"), Message("assistant", " ")))
    with pytest.raises(DataError, match=r"None of the 3 training examples .*3 skipped: empty answer"):
        module(ListSource([nothing] * 3)).setup()


def test_bad_sizes_are_refused():
    with pytest.raises(DataError, match="batch size is 0"):
        module(batch_size=0)
    with pytest.raises(DataError, match="at least the context length"):
        module(row_length=100)


def test_a_batch_without_rows_is_one_row_of_padding():
    batch = collate(tokenize([], TEMPLATE, 64), ())
    assert batch["document_ids"].tolist() == [[-1]]
    assert batch["labels"].tolist() == [[IGNORE]]


class Recorder(lightning.LightningModule):
    """Writes down each batch that it was trained on; breaks down before a given batch."""

    def __init__(self, breaks_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.breaks_at = breaks_at
        self.batches = []

    def training_step(self, batch, batch_idx):
        if len(self.batches) == self.breaks_at:
            raise KeyboardInterrupt if self.breaks_at % 2 else RuntimeError("power cut")
        self.batches.append(batch["input_ids"].tolist())
        return (self.weight - batch["labels"].float().mean()) ** 2

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveAtEnd(Callback):
    """Saves when a validation is over."""

    def __init__(self, hook, path):
        setattr(self, hook, lambda trainer, module: trainer.save_checkpoint(path))


class SaveWhenInterrupted(Callback):
    def __init__(self, path):
        self.path = path

    def on_exception(self, trainer, module, exception):
        trainer.save_checkpoint(self.path)


def train(
    folder, recorder, *, callbacks=(), resume=None, source=SOURCE, batch_size=4, packing=True, steps=None, **settings
):
    trainer = lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        num_sanity_val_steps=0,
        max_epochs=-1,
        max_steps=steps or 3 * PER_EPOCH,
        **({"check_val_every_n_epoch": None, "val_check_interval": PER_EPOCH} | settings),
    )
    data = module(source, batch_size=batch_size, packing=packing)
    try:
        trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=False)
    except (RuntimeError, SystemExit, KeyboardInterrupt):
        if recorder.breaks_at is None:
            raise
    return recorder.batches


PER_EPOCH = module().epoch_length


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What runs that nothing interrupted were trained on, by packing."""
    folder = tmp_path_factory.mktemp("whole")
    runs = {packing: train(folder, Recorder(), packing=packing, steps=9 * PER_EPOCH) for packing in (True, False)}
    assert len(runs[True]) == 9 * PER_EPOCH
    return runs


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("breaks_at", [1, 3, 8, 10, 14])
def test_after_an_interruption_exactly_the_batches_not_yet_trained_on_follow(tmp_path, whole, breaks_at, packing):
    path = tmp_path / "stopped.ckpt"
    before = train(tmp_path, Recorder(breaks_at), callbacks=[SaveWhenInterrupted(path)], packing=packing)
    after = train(tmp_path, Recorder(), resume=path, packing=packing)
    assert len(before) == breaks_at
    assert before + after == whole[packing][: 3 * PER_EPOCH]


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_run_that_died_goes_on_from_its_last_saved_step(tmp_path, whole, every, accumulate):
    saver = ModelCheckpoint(tmp_path, "step", every_n_train_steps=every, enable_version_counter=False)
    settings = {"accumulate_grad_batches": accumulate, "limit_val_batches": 0, "steps": 17}
    lost = train(tmp_path, Recorder(9), callbacks=[saver], **settings)
    trained = torch.load(tmp_path / "step.ckpt", weights_only=False)["global_step"] * accumulate
    after = train(tmp_path, Recorder(), resume=tmp_path / "step.ckpt", **settings)
    assert 0 < trained <= len(lost)
    assert lost[:trained] + after == whole[True][: 17 * accumulate]


@pytest.mark.parametrize("every", [4, PER_EPOCH])
def test_a_run_saved_at_a_validation_goes_on_behind_it(tmp_path, whole, every):
    path = tmp_path / "val.ckpt"
    saver = SaveAtEnd("on_validation_end", path)
    train(tmp_path, Recorder(every + 1), callbacks=[saver], val_check_interval=every)
    after = train(tmp_path, Recorder(), resume=path, val_check_interval=every)
    assert after == whole[True][every : 3 * PER_EPOCH]


def test_a_resumed_run_can_be_interrupted_and_resumed_again(tmp_path, whole):
    path = tmp_path / "stopped.ckpt"
    seen = train(tmp_path, Recorder(3), callbacks=[SaveWhenInterrupted(path)])
    seen = seen + train(tmp_path, Recorder(2), callbacks=[SaveWhenInterrupted(path)], resume=path)
    seen = seen + train(tmp_path, Recorder(6), callbacks=[SaveWhenInterrupted(path)], resume=path)
    assert seen + train(tmp_path, Recorder(), resume=path) == whole[True][: 3 * PER_EPOCH]


def test_a_checkpoint_is_not_continued_with_other_data_or_another_batch_size(tmp_path):
    path = tmp_path / "stopped.ckpt"
    train(tmp_path, Recorder(3), callbacks=[SaveWhenInterrupted(path)])
    with pytest.raises(DataError, match="batch_size was 4 and is 2"):
        train(tmp_path, Recorder(), resume=path, batch_size=2)
    with pytest.raises(DataError, match="data was"):
        train(tmp_path, Recorder(), resume=path, source=BasicsSource(train_size=120, test_size=25, seed=1))


def test_training_without_validation_examples_works(tmp_path):
    source = ListSource(SOURCE.splits().train)
    assert train(tmp_path, Recorder(), source=source, steps=3)


@pytest.mark.parametrize("cached", [False, True])
def test_leakage_is_refused_where_that_is_asked_for(tmp_path, cached):
    source = ListSource([question("One?"), question("Two?")], test=[question("Two?", "No.")])
    cache = {"cache": tmp_path} if cached else {}
    assert module(source, **cache).report.train.used == 1
    source.leakage = "refuse"
    with pytest.raises(DataError, match=r"1 training examples of a list are asked .* data.leakage=remove"):
        module(source, **cache).setup()
