"""Cloze: the last word of a passage, predicted from everything before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from data.example import Example
from eval import EvalError
from eval.detokenizers import Detokenizer, detokenizer
from eval.evaluated_model import EvaluatedModel
from eval.jsonl import BadFile, Line, read_jsonl, read_text
from eval.likelihood import Likelihood, Pair, likelihoods
from eval.tasks.base import (
    DOES_NOT_FIT,
    Item,
    MetricSpec,
    Record,
    fit,
    in_chunks,
    item_id,
    overflow_note,
    prompt_hash,
    question,
)
from resonance.engine import SamplingParams
from resonance.retrieval.text import STOPWORDS

FILTERED = "accuracy_without_stop_words"

_BATCHES_PER_CHUNK = 4  # more lets the engine refill free slots; fewer saves records more often


@dataclass(frozen=True, slots=True)
class Passage:
    """A text and its target, which must follow it and starts with the space between the two, if any.

    `example` is set where the text is a conversation: the target then ends its last answer, and `context` is what the
    answer says before.
    """

    context: str
    target: str
    example: Example | None = None


@dataclass(frozen=True, slots=True)
class Cloze:
    """Accuracy and perplexity of the target, the last word of a passage.

    The prediction is right if greedy decoding generates every token of the target. Perplexity is exp of the mean nats
    per target, as for LAMBADA (Paperno et al. 2016).

    Args:
        path: a JSONL file with `text`, whose last word is the target, or with a prompt (`context`, `prompt`) and a
            `target` (`answer`, `completion`); or a text file with one passage per line. None: the answers of the test
            split, whose last word is the target, after the conversation in the model's chat template.
        detokenizer: `wikitext` or `treebank`, undone before the target is split off; None: the text as it is.
        stop_word_filter: also score greedy decoding in which no stop word may begin (`accuracy_without_stop_words`):
            a passage rarely ends with one (Radford et al. 2019, section 3.3).
    """

    path: str | None = None
    detokenizer: str | None = None
    stop_word_filter: bool = False
    version: ClassVar[int] = 1

    @property
    def needs_examples(self) -> bool:
        """Whether the items are made from the test split."""
        return self.path is None

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Accuracy and perplexity of the targets."""
        filtered = {FILTERED: MetricSpec("proportion", share=True)} if self.stop_word_filter else {}
        return {
            "accuracy": MetricSpec("proportion", share=True, by_group=True),
            **filtered,
            "perplexity": MetricSpec("perplexity", higher_is_better=False),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[Passage]]:
        """One item per passage. Raises EvalError when the file cannot be read, or there is no passage."""
        if self.path is None:
            return _items([passage for example in examples if (passage := _of_example(example)) is not None])
        clean = detokenizer(self.detokenizer)
        if self.path.endswith((".jsonl", ".ndjson")):
            return _items([_of_line(line, clean) for line in read_jsonl(self.path)])
        lines = [(i, line) for i, line in enumerate(read_text(self.path).split("\n"), 1) if line.strip()]
        if not lines:
            raise BadFile(f"{self.path} has no text; give a file with one passage per line.")
        return _items([_passage(clean(line), f"{self.path}, line {i}") for i, line in lines])

    def run(self, model: EvaluatedModel, items: Sequence[Item[Passage]]) -> Iterator[Record]:
        """Score the targets."""
        for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CHUNK):
            pairs = [_pair(model, item.content) for item in chunk]
            fitting = [pair for pair in pairs if pair is not None]
            scored = iter(likelihoods(model.engine, fitting))
            filtered = iter(_without_stop_words(model, fitting) if self.stop_word_filter else ())
            for item, pair in zip(chunk, pairs, strict=True):
                record = _record(model, item, pair, None if pair is None else next(scored))
                if self.stop_word_filter:
                    right = pair is not None and next(filtered)
                    record = replace(record, observations={**record.observations, FILTERED: (float(right), 1.0)})
                yield record

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of passages that do not fit."""
        return overflow_note(records, "passages", "count as wrong")


def _of_example(example: Example) -> Passage | None:
    """The example's answer without its last word; None if it has no words."""
    context, target = _split(example.answer)
    return Passage(context, target, example) if target else None


def _of_line(line: Line, clean: Detokenizer) -> Passage:
    target = line.first_of("target", "answer", "completion")
    prompt = line.first_of("context", "prompt")
    if target is not None and prompt is not None:
        text, answer = line.checked(line.text(prompt), prompt), line.checked(line.text(target), target)
        return Passage(clean(text).rstrip(), f" {clean(answer).strip()}")
    if line.first_of("text") is None:
        raise line.error("there is neither a `text` nor a `context` with its `target`; give one of the two.")
    text = line.checked(line.text("text"), "text")
    return _passage("\n".join(map(clean, text.split("\n"))), f"{line.path}, line {line.number}")


def _passage(text: str, where: str) -> Passage:
    context, target = _split(text)
    if not context.strip():
        raise BadFile(f"{where}: {text.strip()!r} is a single word; a passage needs words before the last.")
    return Passage(context, target)


def _split(text: str) -> tuple[str, str]:
    """What stands before the last word, and that word with the space before it, as GPT-2's tokens have it."""
    text = text.rstrip()
    start = len(text) - len(text.rsplit(maxsplit=1)[-1]) if text else 0
    start -= text[max(0, start - 1) : start] == " "
    return text[:start], text[start:]


def _items(passages: Sequence[Passage]) -> list[Item[Passage]]:
    if not passages:
        raise EvalError("The test split has no answer with a word to predict; name a file with path=FILE.")
    seen: dict[str, int] = {}
    items: list[Item[Passage]] = []
    for passage in passages:
        asked = question(passage.example.prompt) if passage.example else ""
        key = [asked, passage.context, passage.target]
        same = seen[name] = seen.get(name := item_id(key), -1) + 1
        text = f"{asked}\n{passage.context}{passage.target}".strip()
        group = passage.example.family if passage.example else None
        items.append(Item(item_id(key, same) if same else name, passage, text, group))
    return items


def _pair(model: EvaluatedModel, passage: Passage) -> Pair | None:
    """The prompt's and the target's token ids; None if they do not fit into the context.

    A plain text loses its beginning instead, as much as needed.
    """
    encode = model.tokenizer.encode
    if passage.example is not None:
        fitted = fit(passage.example, model)
        if fitted is None:
            return None
        return [*fitted.prompt_ids, *encode(passage.context)], encode(passage.target)
    prompt, target = encode(passage.context), encode(passage.target)
    room = model.context_length + 1 - len(target)  # nothing is computed from the last token
    if room < 1:
        return None
    return prompt[-room:] or [model.tokenizer.eot_id], target


def _without_stop_words(model: EvaluatedModel, pairs: Sequence[Pair]) -> list[bool]:
    """Whether greedy decoding generates each target if it must not begin with a stop word."""
    encoded = [model.tokenizer.encode(f" {word}") for word in STOPWORDS]  # as written inside a sentence
    banned = tuple(ids[0] for ids in encoded if len(ids) == 1)
    params = [
        SamplingParams(max_new_tokens=len(target), temperature=0.0, banned_token_ids=banned, ignore_eos=True)
        for _, target in pairs
    ]
    completions = model.engine.generate([prompt for prompt, _ in pairs], params) if pairs else []
    return [done.token_ids == [*target] for done, (_, target) in zip(completions, pairs, strict=True)]


def _record(model: EvaluatedModel, item: Item[Passage], pair: Pair | None, found: Likelihood | None) -> Record:
    passage = item.content
    asked = f"{question(passage.example.prompt)}\n→ {passage.context}" if passage.example else passage.context
    observations: dict[str, tuple[float, float]] = {"accuracy": (float(found is not None and found.is_greedy), 1.0)}
    if found is not None:
        observations["perplexity"] = (-found.logprob, 1.0)
    return Record(
        item=item.id,
        observations=observations,
        group=item.group,
        cluster=item.cluster,
        question=asked.rstrip(),
        answer=model.tokenizer.decode(found.greedy).strip() if found else "",
        expected=passage.target.strip(),
        correct=found is not None and found.is_greedy,
        prompt_sha256=prompt_hash(pair[0]) if pair else None,
        details={} if found else {DOES_NOT_FIT: True},
    )
