"""Answers graded from 0 to 100 by another model, and compared with other answers in both orders."""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.judge.client import JudgeClient, JudgeUnavailable, Reply
from eval.judge.endpoint import Endpoint, read_api_key, require_at_least, text_setting
from eval.judge.notes import judge_notes, reported_models
from eval.judge.pairwise import Pair, against, pair_verdict, win_rate
from eval.judge.prompts import Rubric
from eval.judge.verdicts import read_grade
from eval.tasks.base import Item, MetricSpec, Record, example_items, in_chunks, overflow_note
from eval.tasks.instruct import Instruct
from eval.text_metrics import normalise
from resonance.paths import home
from resonance.retrieval.cache import Cache

EXPECTED = "expected"

_CACHED_REPLIES = 1_000_000  # about 300 bytes each
_BATCHES_PER_CHUNK = 4  # more keep engine and endpoint busy; fewer save records more often
_PAIRS_PER_SLOT = 4


@dataclass(frozen=True, slots=True)
class Judge:
    """Grades of greedy answers, and win rates in pairs, by a model behind an OpenAI-compatible endpoint.

    At most `questions` of the test split are asked, sampled by `seed`. An empty answer, and a question that does not
    fit into the context window, get grade 0 without asking. Each grade is the mean of `repeat` ones. A reply without a
    clear verdict gives no score; `unreadable` is the share of such. Without the endpoint the task does not run.
    `Endpoint` describes the settings not described here. Raises EvalError for a setting that cannot be.
    """

    url: str | None
    model: str | None
    criteria: str
    api_key_env: str | None = "JUDGE_API_KEY"
    questions: int | None = None
    max_new_tokens: int = 96
    against_expected: bool = True
    repeat: int = 1
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 64
    extra: Mapping[str, Any] | None = None
    timeout: float = 60.0
    attempts: int = 5
    backoff: float = 1.0
    max_wait: float = 60.0
    concurrency: int = 4
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._endpoint()
        read_api_key(self.api_key_env)
        require_at_least("max_new_tokens", self.max_new_tokens, 1)
        require_at_least("repeat", self.repeat, 1)
        if self.questions is not None:
            require_at_least("questions", self.questions, 1)
        text_setting("criteria", self.criteria, "say what a good answer is")

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """The grade from 0 to 100, and win and flip rate against the expected answers."""
        return {
            "grade": MetricSpec("mean", by_group=True),
            "unreadable": MetricSpec("proportion", share=True, higher_is_better=False),
            **(self.pair_metrics(EXPECTED) if self.against_expected else {}),
        }

    def pair_metrics(self, label: str) -> Mapping[str, MetricSpec]:
        """The metrics of the answers against those of `label`."""
        return {
            win_rate(label): MetricSpec("mean", share=True),
            f"{against(label)}.flip_rate": MetricSpec("proportion", share=True, higher_is_better=False),
            f"{against(label)}.unreadable": MetricSpec("proportion", share=True, higher_is_better=False),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[Example]]:
        """One item per example, at most `questions`."""
        items = example_items(examples)
        if self.questions is None or self.questions >= len(items):
            return items
        return [items[i] for i in sorted(random.Random(self.seed).sample(range(len(items)), self.questions))]

    def run(self, model: EvaluatedModel, items: Sequence[Item[Example]]) -> Iterator[Record]:
        """Answer, grade and compare. Raises JudgeUnavailable when the endpoint cannot be asked."""
        instruct = Instruct(self.max_new_tokens)
        with self._client() as client:
            for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CHUNK):
                answered = [replace(record, observations={}, correct=None) for record in instruct.run(model, chunk)]
                graded = self._graded(client, answered)
                expected = {record.item: record.expected for record in graded if record.expected}
                yield from self._compared(client, graded, EXPECTED, expected) if self.against_expected else graded

    def unpaired(self, records: Sequence[Record]) -> list[Record]:
        """The records without verdicts against other models, such as those of an earlier comparison."""
        return [_without_pairs(record) for record in records]

    def pair(self, records: Sequence[Record], label: str, others: Sequence[Record]) -> Iterator[Record]:
        """The records with the verdicts on their answers against another model's to the same items, named `label`."""
        if label == EXPECTED:
            raise EvalError(f"a checkpoint named {label!r} cannot be told from the expected answers; rename it")
        answers = {record.item: record.answer or "" for record in others}
        with self._client() as client:
            for chunk in in_chunks(records, _PAIRS_PER_SLOT * self.concurrency):
                yield from self._compared(client, chunk, label, answers)

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """What the judge is, what it cost, and whether its verdicts tell answers apart."""
        return [*overflow_note(records, "questions", "get grade 0"), *judge_notes(records, self._endpoint())]

    def provenance(self, records: Sequence[Record]) -> Mapping[str, object]:
        """The judge, as its endpoint reports it, and the rubric."""
        return {
            "judge": {
                "url": self._endpoint().url,
                "models": sorted(reported_models(records)),
                "rubric_sha256": Rubric(self.criteria).sha256,
            }
        }

    def _graded(self, client: JudgeClient, records: Sequence[Record]) -> list[Record]:
        rubric = Rubric(self.criteria)
        asked = [record for record in records if normalise(record.answer or "")]
        prompts = [rubric.grade(record.question, record.answer or "", record.expected) for record in asked]
        rounds = [_ask(client, prompts, repetition) for repetition in range(self.repeat)]
        replies = dict(zip((record.item for record in asked), zip(*rounds, strict=True), strict=True))
        return [_with_grade(record, replies.get(record.item)) for record in records]

    def _compared(
        self, client: JudgeClient, records: Sequence[Record], label: str, answers: Mapping[str, str]
    ) -> list[Record]:
        """The records with the verdicts against `answers`, by item; those without such an answer as they are."""
        rubric = Rubric(self.criteria)
        pairs = {
            record.item: Pair(
                record.question,
                record.answer or "",
                answers[record.item],
                None if label == EXPECTED else record.expected,
            )
            for record in records
            if record.item in answers
        }
        asked = {item: pair.prompts(rubric) for item, pair in pairs.items() if pair.known() is None}
        replies = iter(_ask(client, [prompt for prompts in asked.values() for prompt in prompts]))
        replies_of = {item: (next(replies), next(replies)) for item in asked}
        return [
            _with_pair(record, label, pairs[record.item].known(), replies_of.get(record.item))
            if record.item in pairs
            else record
            for record in records
        ]

    @contextmanager
    def _client(self) -> Generator[JudgeClient]:
        with closing(Cache(home() / "judge.sqlite", entries=_CACHED_REPLIES)) as cache:
            yield JudgeClient(self._endpoint(), cache, read_api_key(self.api_key_env))

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            url=self.url or "",
            model=self.model or "",
            temperature=self.temperature,
            seed=self.seed,
            max_tokens=self.max_tokens,
            extra={} if self.extra is None else self.extra,
            timeout=self.timeout,
            attempts=self.attempts,
            backoff=self.backoff,
            max_wait=self.max_wait,
            concurrency=self.concurrency,
        )


def _ask(client: JudgeClient, prompts: Sequence[str], repetition: int = 0) -> list[Reply]:
    """The replies. Raises JudgeUnavailable when all requests are refused, for the settings are wrong then."""
    replies = client.ask(prompts, repetition)
    if replies and all(reply.refusal is not None for reply in replies):
        raise JudgeUnavailable(f"The judge refuses all of {len(replies)} requests: {replies[0].refusal}")
    return replies


def _with_grade(record: Record, replies: Sequence[Reply] | None) -> Record:
    """The record with the mean of its grades; without replies there is no answer to grade."""
    if replies is None:
        return replace(record, observations={**record.observations, "grade": (0.0, 1.0)})
    grades = [grade for reply in replies if (grade := read_grade(reply.text)) is not None]
    observations = {**record.observations, "unreadable": (float(not grades), 1.0)}
    if grades:
        observations["grade"] = (sum(grades) / len(grades), 1.0)
    return _with_replies(replace(record, observations=observations), "grade", replies)


def _with_pair(record: Record, label: str, known: float | None, replies: Sequence[Reply] | None) -> Record:
    """The record with the pair's outcome, `known` or from the replies in both orders."""
    name = against(label)
    kept = {key: value for key, value in record.observations.items() if not key.startswith(f"{name}.")}
    if replies is None:
        assert known is not None
        return replace(record, observations={**kept, win_rate(label): (known, 1.0)})
    verdict = pair_verdict(replies)
    observations = {**kept, f"{name}.unreadable": (float(verdict.won is None), 1.0)}
    if verdict.won is not None:
        observations[win_rate(label)] = (verdict.won, 1.0)
        observations[f"{name}.flip_rate"] = (float(bool(verdict.flipped)), 1.0)
    return _with_replies(replace(record, observations=observations), name, replies)


def _without_pairs(record: Record) -> Record:
    def stays(group: str) -> bool:
        return group == against(EXPECTED) or not group.startswith(against(""))

    told = record.details.get("judge")
    kept = {name: replies for name, replies in told.items() if stays(name)} if isinstance(told, dict) else {}
    return replace(
        record,
        observations={name: pair for name, pair in record.observations.items() if stays(name.rpartition(".")[0])},
        details={**record.details, "judge": kept} if kept else record.details,
    )


def _with_replies(record: Record, name: str, replies: Sequence[Reply]) -> Record:
    """The record with the judge's replies in its details, by what was asked."""
    earlier = record.details.get("judge")
    told = {**(earlier if isinstance(earlier, dict) else {}), name: [reply.as_json() for reply in replies]}
    return replace(record, details={**record.details, "judge": told})
