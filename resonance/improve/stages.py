"""The stages of an attempt. Each is skipped when the journal says that it is done."""

import json
import re
import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from resonance.aliases import AliasError, read_aliases
from resonance.checkpoint import STATE_FILE, TRAIN_FILE, Checkpoint
from resonance.cli.promote import promote_run
from resonance.improve.children import processor_seconds, run_command
from resonance.improve.evidence import read_evidence
from resonance.improve.feedback_file import FeedbackFile, write_lines
from resonance.improve.gate import Check, better, enough, no_worse, rejected_answers, trustworthy
from resonance.improve.journal import EXPORT_FILE, HELD_OUT_EVAL, Attempt, attempts
from resonance.improve.objectives import Choice, choose
from resonance.improve.progress import Progress
from resonance.improve.scores import Compared, evaluations_of, read_comparison, reused_scores
from resonance.improve.settings import Settings
from resonance.improve.training import (
    OWN_DATA,
    RECORD_FILE,
    balance_of,
    disk_needed,
    dpo_words,
    kto_words,
    origin_of,
    sft_words,
    write_configs,
    write_record,
)

HELD_OUT_FILE, EARLIER_FILE, PAIRS_FILE, CHOICES_FILE, THUMBS_FILE, REJECTED_FILE = (
    "held_out.jsonl", "earlier.jsonl", "pairs.jsonl", "choices.jsonl", "thumbs.jsonl", "rejected.jsonl",
)  # fmt: skip
EARLIER_EVAL, PAIRS_EVAL, REJECTED_EVAL = "earlier", "pairs", "rejected"  # folders in an attempt's
_STEP = re.compile(r"step ([\d,]+)/([\d,]+)\s+loss (\S+)")

Json = dict[str, Any]


class TooLittle(Exception):  # an answer, not a fault
    """There is nothing to do now."""


class Refused(Exception):  # an answer, not a fault
    """The candidate is not promoted, or the feedback not learned from."""


class Quiet(Exception):  # an answer, not a fault
    """Quiet hours have begun."""


class Stages:
    """The stages of one attempt, in their order; each records its figures in the journal."""

    def __init__(
        self, settings: Settings, attempt: Attempt, production: Checkpoint, progress: Progress, deadline: float | None
    ) -> None:
        self.settings = settings
        self._attempt, self._production = attempt, production
        self._progress, self._deadline = progress, deadline
        self._folder = attempt.folder
        self.candidate = settings.root / attempt.name
        self._started = self._used = 0.0

    @property
    def trained(self) -> bool:
        """Whether there is a candidate."""
        return self._attempt.figures("train") is not None

    def gather(self) -> None:
        """Export the feedback of those who agreed, and hold out what the gate will ask."""
        if self._skip("gather", lambda done: f"{done['new']} newly judged answers, gathered before"):
            return
        settings, path = self.settings, self._folder / EXPORT_FILE
        words = [
            "feedback", "export", f"out={path}", "json=true", f"test={settings.held_out}",
            f"training_consent={settings.training_consent}", f"screen={str(settings.screen).lower()}",
        ]  # fmt: skip
        environment = {} if settings.store_url is None else {"DATABASE_URL": settings.store_url}
        printed = self._run("gather", words, environment=environment)
        summary = json.loads(printed[printed.index("{") :])
        found = FeedbackFile.read(path, self._since())
        write_lines(self._folder / HELD_OUT_FILE, found.held_out)
        write_lines(self._folder / EARLIER_FILE, found.earlier_held_out)
        write_lines(self._folder / PAIRS_FILE, found.pairs)
        write_lines(self._folder / CHOICES_FILE, found.held_out_pairs)
        write_lines(self._folder / THUMBS_FILE, found.thumbs)
        write_lines(self._folder / REJECTED_FILE, found.held_out_rejections)
        thumbs = [bool(line["label"]) for line in found.thumbs if line["split"] == "train"]
        bounds = found.bounds(self._production.name, "sft")
        self._done(
            "gather",
            f"{found.new_judged} newly judged answers, {found.examples} examples, {found.training_pairs} pairs and "
            f"{len(thumbs)} thumbs to learn from, {bounds.held_out} answers held out",
            until=found.until,
            since=found.since,
            judgements=len(found.lines),
            new=found.new_judged,
            held_out=bounds.held_out,
            could_gain=bounds.could_gain,
            held_out_pairs=len(found.held_out_pairs),
            earlier_held_out=len(found.earlier_held_out),
            held_out_rejections=len(found.held_out_rejections),
            examples=found.examples,
            corrections=found.corrections,
            thumbs=len(thumbs),
            rejections=thumbs.count(False),
            pairs=found.training_pairs,
            counts=found.counts(),
            left_out=summary["left_out"],
            agreement=summary.get("agreement"),
        )

    def check(self) -> None:
        """Refuse what is too little, or contradicts itself. Raises TooLittle and Refused."""
        if self._skip("check", lambda done: str(done["sentence"])):
            return
        settings, gathered = self.settings, self._figures("gather")
        looked = [
            each
            for each in attempts(settings.root, settings.alias)
            if each.looked and each.production == self._attempt.production and each.name != self._attempt.name
        ]
        number = len(looked) + 1
        newest = max((str(each.values["stages"]["gather"]["until"]) for each in looked), default=None)
        found = FeedbackFile.read(self._folder / EXPORT_FILE, gathered["since"])
        reason: str | None = None
        if newest is not None and (gathered["until"] is None or gathered["until"] <= newest):
            reason = (
                f"Nobody has judged anything since {looked[-1].name}, which was compared with this checkpoint already."
            )
        elif not gathered["new"]:
            reason = "There is no new feedback since the last promotion."
        elif not self._choice.objectives:
            reason = self._choice.sentence
        bounds = found.bounds(self._production.name, self._choice.judged_by)
        checks = [enough(bounds, settings.gate, number, settings.held_out)]
        if reason is None and not checks[0].passed:
            reason = checks[0].sentence
        free, needed = shutil.disk_usage(settings.root).free, disk_needed(self._production)
        if reason is None and free - needed < settings.free_bytes:
            reason = (
                f"{free / 1e9:.1f} GB are free, and a candidate takes up to {needed / 1e9:.1f} GB of which "
                f"{settings.free_bytes / 1e9:.1f} GB must stay free (limits.free_gb); nothing was trained."
            )
        if reason is not None:
            self._progress.end("check", reason, passed=False)
            raise TooLittle(reason)
        checks.append(trustworthy(gathered["agreement"], settings.gate.max_wrong))
        if not checks[-1].passed:
            self._progress.end("check", checks[-1].sentence, passed=False)
            raise Refused(f"Not promoted, and nothing was trained: {checks[-1].sentence}")
        sentence = checks[0].sentence
        self._done(
            "check",
            f"{self._choice.sentence} {sentence}",
            sentence=sentence,
            learns=self._choice.sentence,
            attempt=number,
            checks=[each.as_json() for each in checks],
        )

    def train(self) -> None:
        """Train the candidate: SFT on examples and own data, DPO on pairs, or one after the other; or KTO on thumbs."""
        if self._skip("train", lambda done: f"{done['run']}, trained before"):
            return
        settings, gathered, configs = self.settings.train, self._figures("gather"), self._folder / "configs"
        origin = origin_of(self._production)
        write_configs(
            configs, origin, self._production.folder, self._folder / EXPORT_FILE, gathered["examples"], settings
        )
        objectives = self._choice.objectives
        weights, steps, tokens, seconds = self._production.folder, 0, 0, 0.0
        for objective in objectives:
            last = objective == objectives[-1]
            run = self._attempt.name if last else f"{self._attempt.name}-{objective}"
            root = self.settings.root
            if objective == "sft":
                words = sft_words(configs, origin, root, run, settings)
            elif objective == "kto":
                up = gathered["thumbs"] - gathered["rejections"]
                balance = balance_of(up, gathered["rejections"])
                words = kto_words(configs, origin, root, run, self._folder / THUMBS_FILE, balance, settings)
            else:
                words = dpo_words(configs, origin, root, run, weights, self._folder / PAIRS_FILE, settings)
            self._train(objective, root / run, words)
            weights = root / run
            write_record(weights, origin, self._attempt.name, gathered["until"])
            metadata = Checkpoint.open(weights).metadata
            steps, tokens = steps + metadata.steps, tokens + metadata.tokens_seen
            seconds += float(str(metadata.training.get("duration_s") or 0))
        self._done(
            "train",
            f"{self._attempt.name}: {' and '.join(objectives)}, {steps} steps, {tokens:,} tokens",
            run=self._attempt.name,
            objectives=objectives,
            steps=steps,
            tokens=tokens,
            training_seconds=seconds,
        )

    def evaluate(self) -> None:
        """Ask old and new the same questions: held-out feedback, and the standing suite."""
        if self._skip("evaluate", lambda _done: "evaluated before"):
            return
        gathered = self._figures("gather")
        candidate, production = f"checkpoint={self.candidate}", f"compare=[{self._production.folder}]"
        common = ["eval", candidate, production, "contamination=null", "wandb=false"]
        figures: Json = {}
        parts = [(HELD_OUT_EVAL, HELD_OUT_FILE, "instruct")] if gathered["held_out"] else []
        parts += [(EARLIER_EVAL, EARLIER_FILE, "instruct")] if gathered["earlier_held_out"] else []
        parts += [(REJECTED_EVAL, REJECTED_FILE, "perplexity")] if self._choice.judged_by == "kto" else []
        for name, file, task in parts:
            data = ["data=feedback", f"data.path={self._folder / file}", "data.learn=examples"]
            out = self._folder / name
            self._progress.detail("evaluate", f"{name.replace('_', ' ')} feedback")
            words = [*common, *data, f"tasks=[{task}]", "limit=null", f"out={out}"]
            self._run("evaluate", words, log=f"evaluate-{name}")
            figures[name] = [each.as_json() for each in read_comparison(out, self._production.name)]
        if "dpo" in self._figures("train")["objectives"] and gathered["held_out_pairs"]:
            out = self._folder / PAIRS_EVAL
            self._progress.detail("evaluate", "held out pairs")
            words = [*common, "tasks=[choice]", f"task.choice.path={self._folder / CHOICES_FILE}", f"out={out}"]
            self._run("evaluate", words, log=f"evaluate-{PAIRS_EVAL}")
            pairs = read_comparison(out, self._production.name)
            figures[PAIRS_EVAL] = [each.as_json() for each in pairs if each.metric == "acc"]
        self._progress.detail("evaluate", f"standing suite: {', '.join(self.settings.suite)}")
        limit = "null" if self.settings.limit is None else str(self.settings.limit)
        words = [
            *common, f"--config-dir={self._folder / 'configs'}", f"data={OWN_DATA}",
            f"tasks=[{','.join(self.settings.suite)}]", f"limit={limit}", f"reuse=[{self._earlier_scores()}]",
        ]  # fmt: skip
        self._run("evaluate", words, log="evaluate-standing")
        standing = read_comparison(self.candidate, self._production.name)
        figures["standing"] = [each.as_json() for each in standing if each.task in self.settings.suite]
        figures["reused"] = reused_scores(self.candidate, self._production.name)
        text = f"{gathered['held_out']} held-out answers, {len(standing)} standing scores"
        if figures["reused"]:
            text += f", those of {self._production.name} measured before"
        self._done("evaluate", text, **figures)

    def gate(self) -> None:
        """Decide; what was decided is decided again with further evidence. Raises Refused with the reasons."""
        further = [each.check for each in read_evidence(self.settings.gate.evidence)]
        if (done := self._attempt.figures("gate")) is None:
            settings, evaluated = self.settings.gate, self._figures("evaluate")
            checked = self._figures("check")
            held_out = _compared(evaluated.get(HELD_OUT_EVAL, []))
            pairs = _compared(evaluated.get(PAIRS_EVAL, []))
            metric = next((each for each in held_out if each.metric == settings.metric), None)
            standing = [*_compared(evaluated["standing"]), *_compared(evaluated.get(EARLIER_EVAL, [])), *pairs]
            if self._choice.judged_by == "dpo":  # of two answers, the likelier one is the one that people prefer
                metric = pairs[0] if pairs else None
            elif self._choice.judged_by == "kto":
                metric = rejected_answers(_compared(evaluated.get(REJECTED_EVAL, [])))
                standing += held_out  # the approved answers
            own = [
                *(Check(**each) for each in checked["checks"]),
                better(metric, settings, int(checked["attempt"])),
                no_worse(standing),
            ]
            done = self._decide(own, further)
        elif further:  # gathered since the decision; it takes the place of earlier evidence of its name
            checks = [Check(**each) for each in done["checks"]]
            number, names = int(done.get("own", len(checks))), {each.name for each in further}
            earlier = [each for each in checks[number:] if each.name not in names]
            done = self._decide(checks[:number], [*earlier, *further])
        failed = [Check(**each) for each in done["checks"] if not each["passed"]]
        if failed:
            reasons = " ".join(f"Not {each.name}: {each.sentence}" for each in failed)
            raise Refused(f"{self._attempt.name} was not promoted and is kept. {reasons}")

    def _decide(self, own: Sequence[Check], further: Sequence[Check]) -> Json:
        checks = [*own, *further]
        failed = [each for each in checks if not each.passed]
        text = "open" if not failed else "; ".join(f"not {each.name}" for each in failed)
        return self._record("gate", text, not failed, own=len(own), checks=[each.as_json() for each in checks])

    def promote(self) -> None:
        """Verify the candidate and move the alias. Raises Refused when it does not hold what it claims."""
        self._begin("promote")
        self._progress.detail("promote", "verifying" if self.settings.verify else "")
        alias, gathered = self.settings.alias, self._figures("gather")
        present = read_aliases(self.settings.root)[alias].current
        if (present.run, present.crc32) != self._attempt.production:
            self._progress.end("promote", "the alias was moved meanwhile", passed=False)
            raise Refused(f"{alias} was moved to {present.run} meanwhile; {self._attempt.name} is kept.")
        checks = [Check(**each) for each in self._figures("gate")["checks"]]
        evidence = {
            "improved from": self._attempt.production[0],
            "attempt": self._figures("check")["attempt"],
            "feedback_until": gathered["until"],
            "learned_from": self._attempt.learned_from,
            **{each.name: each.sentence for each in checks if each.counted},
        }
        try:
            promote_run(self.settings.root, alias, self._attempt.name, verify=self.settings.verify, evidence=evidence)
        except AliasError as error:
            self._progress.end("promote", str(error), passed=False)
            raise Refused(str(error)) from error
        self._done("promote", f"{alias} is {self._attempt.name}")

    def _earlier_scores(self) -> str:
        """The folders with earlier scores of the checkpoint in service."""
        others = [
            self.settings.root / each.name
            for each in attempts(self.settings.root, None)
            if each.production == self._attempt.production and each.name != self._attempt.name
        ]
        return ",".join(str(folder) for folder in evaluations_of(self._production.folder, others[::-1]))

    def _train(self, objective: str, folder: Path, words: Sequence[str]) -> None:
        """Train a run, from its last save on if it was interrupted."""
        if (folder / STATE_FILE).is_file():
            words = ["train", f"resume={folder.name}", f"checkpoints_dir={folder.parent}"]
        elif (folder / TRAIN_FILE).is_file():  # killed before its first save
            words = [*words, "overwrite=true"]

        def watch(line: str) -> None:
            if match := _STEP.search(line):
                self._progress.detail("train", f"{objective}: step {match[1]} of {match[2]}, loss {match[3]}")

        self._run("train", words, log=f"train-{objective}", watch=watch)

    @property
    def _choice(self) -> Choice:
        return choose(self._figures("gather"), self.settings.train)

    def _since(self) -> str | None:
        """The newest judgement that the checkpoint in service has learned from."""
        path = self._production.folder / RECORD_FILE
        if not path.is_file():
            return None
        return json.loads(path.read_text(encoding="utf-8")).get("feedback_until")

    def _figures(self, stage: str) -> Json:
        figures = self._attempt.figures(stage)
        assert figures is not None
        return figures

    def _begin(self, stage: str) -> None:
        quiet = self.settings.quiet_hours
        if quiet is not None and quiet.holds(datetime.now()):
            raise Quiet(f"Quiet hours ({quiet}) have begun.")
        self._started, self._used = time.monotonic(), processor_seconds()
        self._progress.start(stage)

    def _skip(self, stage: str, text: Any) -> bool:
        """Begin a stage; True if it is done already."""
        done = self._attempt.figures(stage)
        if done is None:
            self._begin(stage)
            return False
        self._progress.start(stage)
        self._progress.end(stage, text(done), seconds=float(done["seconds"]))
        return True

    def _done(self, stage: str, text: str, **figures: object) -> None:
        used = processor_seconds() - self._used
        self._attempt.record(stage, time.monotonic() - self._started, processor_seconds=round(used, 2), **figures)
        self._progress.end(stage, text)

    def _record(self, stage: str, text: str, passed: bool, **figures: object) -> Json:
        self._progress.start(stage)
        done = self._attempt.record(stage, 0.0, **figures)
        self._progress.end(stage, text, passed=passed)
        return done

    def _run(self, stage: str, words: Sequence[str], *, log: str | None = None, **more: Any) -> str:
        return run_command(self._folder, log or stage, words, deadline=self._deadline, **more)


def _compared(values: Sequence[Json]) -> list[Compared]:
    return [Compared.from_json(each) for each in values]
