"""Tasks of lm-evaluation-harness as tasks of `resonance eval`."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.harness.definitions import Definition, find, harness_version, load, quiet
from eval.harness.metrics import HarnessMetric, harness_metrics
from eval.tasks.base import Item, MetricSpec, Record, in_chunks, item_id, prompt_hash
from resonance.errors import ResonanceError

if TYPE_CHECKING:
    from eval.harness.lm import EngineLM

SHOWN_CHARACTERS = 4000  # of a question in the records: whole articles would make the report unreadable


@dataclass(frozen=True, slots=True)
class HarnessSettings:
    """How the harness runs its tasks, the same for all of them.

    Args:
        limit: the first so many items of each task; None: all.
        num_fewshot: examples before each question; None: as the task says.
        chat_template: ask through the checkpoint's chat template, examples as earlier turns.
        system_instruction: a system prompt; without `chat_template` it stands before the text.
        gen_kwargs: settings of generation in place of the task's, such as `max_gen_toks`.
        data: folder with the tasks' items as `<name>.jsonl`; None: as the task's definition says, mostly from the Hub.
        seed: draws the examples before questions, and the tokens of tasks that sample.
    """

    limit: int | None = None
    num_fewshot: int | None = None
    chat_template: bool = False
    system_instruction: str | None = None
    gen_kwargs: Mapping[str, object] = field(default_factory=dict[str, object])
    data: Path | None = None
    seed: int = 1234  # the harness's own default


def harness_tasks(names: Sequence[str], settings: Mapping[str, object]) -> dict[str, "HarnessTask"]:
    """The harness's tasks of these names, groups as their members; `settings` are those of the config, without prefix.

    Raises EvalError for an unknown name, a wrong setting, settings without any task, and a missing harness.
    """
    given = {name: value for name, value in settings.items() if value is not None and value is not False}
    if not names:
        if given:
            name, value = next(iter(given.items()))
            raise EvalError(f"harness_{name}={value!r} has no effect without harness=[...], which names tasks.")
        return {}
    for name, least in (("limit", 1), ("num_fewshot", 0)):
        value = given.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise EvalError(f"harness_{name} must be a whole number of at least {least}, not {value!r}.")
    if not isinstance(given.get("gen_kwargs", {}), Mapping):
        raise EvalError(f"harness_gen_kwargs must be settings like {{max_gen_toks: 64}}, not {given['gen_kwargs']!r}.")
    paths = {name: Path(str(given.pop(name))) for name in ("data", "include_path") if name in given}
    own = HarnessSettings(data=paths.get("data"), **given)  # pyright: ignore[reportArgumentType]: checked there
    return {found.name: HarnessTask(found, own) for found in find(names, paths.get("include_path"))}


class HarnessTask:
    """One task of the harness. Its prompts, answers' filters and metrics are the harness's own."""

    version: ClassVar[int] = 1  # of this adapter; the task's own version is in `settings`
    needs_examples: ClassVar[bool] = False

    def __init__(self, definition: Definition, settings: HarnessSettings) -> None:
        self._definition, self._settings = definition, settings
        self._loaded: Any = None

    @property
    def settings(self) -> dict[str, object]:
        """What the scores depend on, for their provenance."""
        task, own = self._task(), self._settings
        return {
            "harness": harness_version(),
            "harness_version": task.VERSION,
            "num_fewshot": task.config.num_fewshot,
            "limit": own.limit,
            "chat_template": own.chat_template,
            "system_instruction": own.system_instruction,
            "gen_kwargs": dict(own.gen_kwargs),
            "seed": own.seed,
        }

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Those metrics of the task that single items have; none where its data cannot be had."""
        try:
            return {metric.name: metric.spec for metric in self._metrics() if metric.spec is not None}
        except EvalError:
            return {}

    def items(self, examples: Sequence[Example]) -> Sequence[Item[int]]:
        """One item per document, which is its number in the task. `examples` is not used."""
        task = self._task()
        seen: dict[str, int] = {}
        items: list[Item[int]] = []
        for doc_id, doc in self._documents():
            text = json.dumps(doc, default=str, ensure_ascii=False, sort_keys=True)
            same = seen[text] = seen.get(text, -1) + 1
            parts = [task.doc_to_text(doc), _target(task, doc)]
            shown = "\n".join(str(part) for part in parts if isinstance(part, str) and part)
            items.append(Item(item_id(self._definition.name, text, same), doc_id, shown))
        return items

    def run(self, model: EvaluatedModel, items: Sequence[Item[int]]) -> Iterator[Record]:
        """Ask the harness's requests of each item, and score the responses as the harness does."""
        from eval.harness.lm import BATCHES_PER_CALL, EngineLM

        task, lm = self._task(), EngineLM(model, seed=self._settings.seed)
        requests = self._requests(task, lm)
        documents = dict(self._documents())
        for chunk in in_chunks(items, model.batch_size * BATCHES_PER_CALL):
            asked = [request for item in chunk for request in requests[item.content]]
            _answer(lm, asked)
            task._instances = asked
            task.apply_filters()
            for item in chunk:
                yield self._record(lm, item, documents[item.content], requests[item.content])

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """Metrics that only all items together have, and settings that the task does not take."""
        name, settings = self._definition.name, self._settings
        notes: list[str] = []
        for metric in self._metrics():
            values = [record.details[metric.name] for record in records if metric.name in record.details]
            if metric.spec is None and values:
                try:
                    value = float(metric.aggregate([_as_given(value) for value in values]))
                except Exception as error:  # the aggregation of a task, which may be anybody's
                    notes.append(f"{name}: the harness's {metric.name} failed ({type(error).__name__}: {error}).")
                    continue
                notes.append(f"{name}: {metric.name} {value:.4g} over all {len(values)} items, without an interval.")
        if settings.num_fewshot is not None and settings.num_fewshot != self._task().config.num_fewshot:
            notes.append(
                f"{name}: the harness always runs it with {self._task().config.num_fewshot} examples, so "
                f"harness_num_fewshot={settings.num_fewshot} has no effect on it."
            )
        return notes

    def _task(self) -> Any:
        """The harness's task, loaded once. Raises EvalError when its data cannot be had."""
        if isinstance(self._loaded, EvalError):
            raise self._loaded
        if self._loaded is None:
            settings = self._settings
            try:
                task = load(self._definition, settings.data, few_shot=bool(settings.num_fewshot))
            except EvalError as error:
                self._loaded = error
                raise
            fixed = task.config.num_fewshot
            if settings.num_fewshot is not None and fixed != 0:
                task.set_config("num_fewshot", settings.num_fewshot)
            elif fixed is None:
                task.set_config("num_fewshot", 0)
            if task.OUTPUT_TYPE == "generate_until" and settings.gen_kwargs:
                task.set_config("generation_kwargs", dict(settings.gen_kwargs), update=True)
            if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
                what = (
                    "runs code that a model wrote" if getattr(task, "UNSAFE_CODE", False) else "needs images or sound"
                )
                raise EvalError(f"the harness's {self._definition.name} {what}, which is not done here.")
            self._loaded = task
        return self._loaded

    def _metrics(self) -> list[HarnessMetric]:
        return harness_metrics(self._task())

    def _documents(self) -> list[tuple[int, Mapping[str, Any]]]:
        return [*self._task().doc_iterator(limit=self._settings.limit)]

    def _requests(self, task: Any, lm: "EngineLM") -> Mapping[int, list[Any]]:
        """All requests by document. They are made for all documents, as examples are drawn for one after the other."""
        task.set_fewshot_seed(self._settings.seed)
        try:
            with quiet():
                task.build_all_requests(
                    limit=self._settings.limit,
                    system_instruction=self._settings.system_instruction,
                    apply_chat_template=self._settings.chat_template,
                    fewshot_as_multiturn=self._settings.chat_template,
                    chat_template=lm.apply_chat_template if self._settings.chat_template else None,
                    tokenizer_name=lm.tokenizer_name,
                )
        except ResonanceError:
            raise
        except Exception as error:  # a task's own functions may raise anything
            raise self._failed("cannot make its prompts", error) from error
        by_document: dict[int, list[Any]] = defaultdict(list)
        for request in task.instances:
            by_document[request.doc_id].append(request)
        for requests in by_document.values():
            requests.sort(key=lambda request: request.idx)
        return by_document

    def _record(self, lm: "EngineLM", item: Item[int], doc: Mapping[str, Any], requests: Sequence[Any]) -> Record:
        task = self._task()
        values: dict[str, object] = {}
        for filter_name in requests[0].filtered_resps:
            responses = [request.filtered_resps[filter_name] for request in requests]
            try:
                scored = task.process_results(doc, responses)
            except Exception as error:  # a task's own functions may raise anything
                raise self._failed("cannot score an answer", error) from error
            values |= {metric.name: scored[metric.key] for metric in self._metrics() if metric.of(filter_name, scored)}
        metrics = {metric.name: metric for metric in self._metrics()}
        observed = {name: metrics[name].observe(value) for name, value in values.items()}
        observations = {name: pair for name, pair in observed.items() if pair is not None}
        verdict = next((name for name in observations if metrics[name].is_verdict), None)
        context = str(requests[0].args[0])
        return Record(
            item=item.id,
            observations=observations,
            question=context if len(context) <= SHOWN_CHARACTERS else context[:SHOWN_CHARACTERS] + "…",
            answer=_answer_text(task, doc, requests),
            expected=_target(task, doc),
            correct=None if verdict is None else observations[verdict] == (1.0, 1.0),
            prompt_sha256=prompt_hash(lm.tok_encode(context)),
            details={
                "responses": _json([request.resps for request in requests]),
                **{name: _json(value) for name, value in values.items() if name not in observations},
            },
        )

    def _failed(self, what: str, error: Exception) -> EvalError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return EvalError(f"the harness's {self._definition.name} {what} ({reason}).")


def _answer(lm: "EngineLM", requests: Sequence[Any]) -> None:
    """Put the model's responses into the requests, one for each repeat."""
    by_type: dict[str, list[Any]] = defaultdict(list)
    for request in requests:
        request.resps = []
        by_type[request.request_type] += [request] * (request.repeats or 1)
    for request_type, repeated in by_type.items():
        ask: Callable[..., Sequence[object]] = getattr(lm, request_type)
        for request, response in zip(repeated, ask(repeated, disable_tqdm=True), strict=True):
            request.resps.append(response)


def _target(task: Any, doc: Mapping[str, Any]) -> str | None:
    """The expected answer as text; None where the task has none."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(doc)
        targets = target if isinstance(target, list) else [target]
        return " / ".join(str(choices[each]) if isinstance(each, int) else str(each) for each in targets)
    if task.OUTPUT_TYPE == "loglikelihood_rolling" or isinstance(target, int | float):
        return None
    return " / ".join(map(str, target)) if isinstance(target, list) else str(target)


def _answer_text(task: Any, doc: Mapping[str, Any], requests: Sequence[Any]) -> str | None:
    """The likeliest choice, or the generated text; None for a text that is only scored."""
    if task.OUTPUT_TYPE == "generate_until":
        return str(requests[0].resps[0])
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = requests[: len(task.doc_to_choice(doc))]  # further ones score the choices alone
        best = max(choices, key=lambda request: request.resps[0][0])
        return str(best.args[0 if task.multiple_input else 1]).strip()
    return None


def _json(value: object) -> object:
    """A value in JSON types."""
    if isinstance(value, Mapping):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json(each) for each in value]
    if isinstance(value, bool | str) or value is None:
        return value
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]: numpy's numbers too
    except (TypeError, ValueError):
        return str(value)
    return value if isinstance(value, int) else number if math.isfinite(number) else str(number)


def _as_given(value: object) -> object:
    """A value of the records as the harness's aggregation expects it: its pairs are tuples."""
    return tuple(value) if isinstance(value, list) else value
