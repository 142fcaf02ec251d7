"""The inference worker: LitServe's LitAPI whose model is our engine, one engine a checkpoint.

It knows token ids and leases, and nothing of HTTP, messages or text.
"""

import logging
import os
import pickle
import signal
import time
from collections.abc import Callable
from typing import Any

from litserve import LitAPI

from resonance.engine import EngineError, Piece, SamplingParams
from resonance.errors import error_location
from serve.settings import EngineSettings
from serve.workers.checkpoint_list import Roster
from serve.workers.client import ApiSpec
from serve.workers.engine_loop import EngineLoop
from serve.workers.engines import Engines
from serve.workers.messages import Event, Failure, Finished, Job, Progress, Scored, Token
from serve.workers.parent import exit_with_parent
from serve.workers.shared_state import LeaseTable, WorkerState

log = logging.getLogger("resonance.serve.inference.worker")

SCORE = "score"  # how the names of engine requests end that score a prompt
BROKEN = Failure(500, "generation_failed", "The model failed on this request; the server goes on.")
ABSENT = Failure(503, "model_unavailable", "The worker does not hold this model at the moment; its log says why.")
TOO_LATE = Failure(504, "timeout", "The answer took longer than the server allows.")


class EngineWorker(LitAPI):
    """Takes jobs, lets the engines step, and reports what each step brought."""

    def __init__(self, settings: EngineSettings, table: LeaseTable, roster: Roster, spec: ApiSpec) -> None:
        super().__init__(max_batch_size=settings.max_batch_size, spec=spec, loop=EngineLoop())
        self.settings, self.table, self.roster = settings, table, roster

    def setup(self, device: str) -> None:
        """Load every checkpoint; called once in the worker's process."""
        exit_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process decides
        self.worker = int(os.environ["LITSERVE_WORKER_ID"])
        self.table.set_state(self.worker, WorkerState.LOADING)
        try:
            self.engines = Engines(self.settings, self.roster, self.worker, device)
            self.engines.load()
        except Exception:
            self.table.set_state(self.worker, WorkerState.FAILED)
            raise
        self.jobs: dict[str, Progress] = {}
        self.cached_tokens = 0
        first = next(iter(self.engines.running.values()))
        self.table.set_precision(self.worker, first.stats().precision)
        self.table.set_state(self.worker, WorkerState.READY)

    def follow(self) -> None:
        """Load and drop checkpoints as the roster says."""
        self.engines.follow({progress.job.model for progress in self.jobs.values()})

    def has_active_requests(self) -> bool:
        """Whether any job is unfinished."""
        return bool(self.jobs)

    def has_capacity(self) -> bool:
        """Whether another job could start at once: an engine has a free place in its batch, or a paused job in one."""
        return any(count < self.settings.max_batch_size for count in self._busy().values())

    def _busy(self) -> dict[str, int]:
        """How many places of each engine are taken; those of paused jobs can be had."""
        busy = dict.fromkeys(self.engines.running, 0)
        for progress in self.jobs.values():
            if not progress.paused:
                busy[progress.job.model] += progress.places
        return busy

    def can_step(self) -> bool:
        """Whether a step would bring anything; paused jobs bring nothing."""
        return any(engine.has_work for engine in self.engines.running.values())

    def add_request(self, request: bytes) -> list[tuple[str, Event]]:
        """Take a job. One whose client has gone, or that a worker has already, is dropped without a word."""
        job: Job = pickle.loads(request)
        uid = job.lease.uid
        if self.table.claimed(job.lease):
            return []
        if not self.table.live(job.lease):
            self.table.count("cancelled", self.worker)
            return []
        if job.model not in self.engines.running:
            return [(uid, ABSENT)]
        self.table.claim(job.lease, self.worker)
        progress = self.jobs[uid] = Progress(job)
        self.table.set("active", self.worker, len(self.jobs))
        return self._begin(uid, progress)

    def _begin(self, uid: str, progress: Progress) -> list[tuple[str, Event]]:
        """Begin a job's next prompt that has something to compute; the job's last event when nothing is left of it."""
        before = progress.places
        while progress.places == before and (prompt := progress.next_prompt) is not None:
            number, first = progress.take_next()
            begin = self._generate if prompt.score_top is None or len(prompt.ids) < 2 else self._score
            failed = begin(uid, progress, number, first)
            if failed:
                return failed
        return self._finish_if_done(uid, progress)

    def _score(self, uid: str, progress: Progress, number: int, first: int) -> list[tuple[str, Event]]:
        """Let a prompt's own log-probabilities be computed; its answers follow."""
        prompt = progress.job.prompts[number]
        request_id = f"{uid}/{number}/{SCORE}"
        progress.open[request_id] = number, first
        progress.places += 1
        engine, top = self.engines.running[progress.job.model], prompt.score_top or 0
        return self._submit(
            uid, lambda: engine.submit_score(prompt.ids[:1], prompt.ids[1:], top=top, request_id=request_id)
        )

    def _generate(self, uid: str, progress: Progress, number: int, first: int) -> list[tuple[str, Event]]:
        """Let a prompt's answers begin, where any are asked for."""
        prompt = progress.job.prompts[number]
        if prompt.params is None:
            return []
        request_id = f"{uid}/{number}"
        progress.open[request_id] = number, first
        progress.waiting[request_id] = len(prompt.ids)
        progress.places += prompt.n
        engine, params = self.engines.running[progress.job.model], prompt.params

        failed = self._submit(
            uid, lambda: engine.submit(prompt.ids, SamplingParams(**params, n=prompt.n), request_id=request_id)
        )
        if progress.paused:
            engine.pause(request_id)
        return failed

    def _submit(self, uid: str, submit: Callable[[], object]) -> list[tuple[str, Event]]:
        """Hand something to the engine; the job's failure when that cannot be done."""
        try:
            submit()
        except EngineError as error:
            return [(uid, self._fail(uid, Failure(400, "invalid_request", str(error))))]
        except Exception as error:
            log.error("a request could not be started: %s at %s", type(error).__name__, error_location(error))
            return [(uid, self._fail(uid, BROKEN))]
        return []

    def _begin_next_prompts(self) -> list[tuple[str, Event]]:
        """Begin further prompts of jobs with several.

        A job has one of its prompts under way at any time, in the place of the one before. The places that are left
        go to the jobs that have fewest, but for the last one: the next job finds it free, however many prompts wait.
        """
        several = [
            (uid, progress)
            for uid, progress in self.jobs.items()
            if progress.next_prompt is not None and not progress.paused
        ]
        if not several:
            return []
        events: list[tuple[str, Event]] = []
        for uid, progress in several:
            if not progress.places:
                events += self._begin(uid, progress)
        free = {name: self.settings.max_batch_size - 1 - count for name, count in self._busy().items()}
        while several:
            uid, progress = min(several, key=lambda entry: entry[1].places)
            prompt = progress.next_prompt
            if uid not in self.jobs or prompt is None or prompt.places > free[progress.job.model]:
                several.remove((uid, progress))
                continue
            free[progress.job.model] -= prompt.places
            events += self._begin(uid, progress)
        return events

    def step(self) -> list[tuple[str, Event]]:
        """Let every engine compute one step; return what became of it, in order."""
        events = self._drop_unwanted()
        self._pause_and_resume()
        events += self._begin_next_prompts()
        batch = 0
        for name, engine in self.engines.running.items():
            if not engine.has_work:
                continue
            self.table.beat(self.worker)
            try:
                pieces = engine.step()
            except Exception as error:
                log.error("a step failed: %s at %s", type(error).__name__, error_location(error))
                events += [(uid, self._fail(uid, BROKEN)) for uid in self._jobs_of(name)]
                continue
            self.table.count("steps", self.worker)
            batch += len(pieces)
            for request_id, piece in pieces:
                events += self._report(request_id, piece)
        self.table.set("batch", self.worker, batch if self.jobs else 0)
        return events

    def _report(self, request_id: str, piece: Piece) -> list[tuple[str, Event]]:
        uid = request_id.partition("/")[0]
        progress = self.jobs.get(uid)
        if progress is None:  # cancelled a moment ago
            return []
        if request_id.endswith(SCORE):
            return self._report_scores(uid, progress, request_id, piece)
        if piece.token_id is not None:
            self.table.count("generated_tokens", self.worker)
            self.table.count("prompt_tokens", self.worker, progress.waiting.pop(request_id, 0))
        token = Token(
            index=progress.open[request_id][1] + piece.index,
            token_id=piece.token_id,
            text=piece.text,
            logprob=piece.logprob,
            top_logprobs=piece.top_logprobs,
            finish_reason=piece.finish_reason,
        )
        events: list[tuple[str, Event]] = [(uid, token)]
        if piece.finish_reason:
            events += self._free_place(uid, progress)
        return events

    def _report_scores(self, uid: str, progress: Progress, request_id: str, piece: Piece) -> list[tuple[str, Event]]:
        number, first = progress.open[request_id]
        events: list[tuple[str, Event]] = [
            (uid, Scored(number, [(score.logprob, score.top_logprobs) for score in piece.scores]))
        ]
        if piece.finish_reason:
            prompt = progress.job.prompts[number]
            if prompt.params is None:  # else they are counted when its answer begins
                self.table.count("prompt_tokens", self.worker, len(prompt.ids))
            failed = self._generate(uid, progress, number, first)  # next to the scoring's cache, in its place
            events += failed or self._free_place(uid, progress)
        return events

    def _free_place(self, uid: str, progress: Progress) -> list[tuple[str, Event]]:
        """Note that an answer or a scoring has ended."""
        progress.places -= 1
        return self._finish_if_done(uid, progress)

    def _finish_if_done(self, uid: str, progress: Progress) -> list[tuple[str, Event]]:
        unfinished = progress.places or progress.next_prompt is not None
        return [] if unfinished else [(uid, self._finish(uid))]

    def _drop_unwanted(self) -> list[tuple[str, Event]]:
        """Cancel what nobody waits for any more, before any time is spent on it."""
        events: list[tuple[str, Event]] = []
        now = time.monotonic()
        for uid, progress in list(self.jobs.items()):
            gone = not self.table.live(progress.job.lease)
            if gone or now > progress.job.deadline:
                failure = self._fail(uid, TOO_LATE)
                self.table.count("cancelled", self.worker)
                if not gone:
                    events.append((uid, failure))
        return events

    def _pause_and_resume(self) -> None:
        """Compute nothing for jobs whose readers are behind, until these have caught up."""
        for progress in self.jobs.values():
            paused = self.table.paused(progress.job.lease)
            if paused == progress.paused:
                continue
            progress.paused = paused
            engine = self.engines.running[progress.job.model]
            for request_id in progress.open:
                if paused:
                    engine.pause(request_id)
                else:
                    engine.resume(request_id)

    def _jobs_of(self, model: str) -> list[str]:
        return [uid for uid, progress in self.jobs.items() if progress.job.model == model]

    def _fail(self, uid: str, failure: Failure) -> Failure:
        progress = self.jobs[uid]
        for request_id in progress.open:
            self.engines.running[progress.job.model].cancel(request_id)
        self._finish(uid)
        return failure

    def _finish(self, uid: str) -> Finished:
        del self.jobs[uid]
        self.table.set("active", self.worker, len(self.jobs))
        cached = sum(engine.stats().cached_tokens for engine in self.engines.running.values())
        self.table.count("cached_tokens", self.worker, cached - self.cached_tokens)
        self.cached_tokens = cached
        return Finished()

    def decode_request(self, request: Any, **_: Any) -> Any:
        """Nothing: requests arrive ready for the engine."""
        return request

    def encode_response(self, output: Any, **_: Any) -> Any:
        """Nothing: what a step brings is written by the HTTP process."""
        return output
