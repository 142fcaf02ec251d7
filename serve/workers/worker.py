"""The inference worker: one engine per checkpoint, and the requests that they are computing.

It knows token ids and request slots, and nothing of HTTP, chat messages or text.
"""

import logging
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from resonance.engine import EngineError, Piece, SamplingParams
from resonance.errors import error_location
from serve.settings import EngineSettings
from serve.workers.engines import Engines
from serve.workers.messages import (
    TIMED_OUT,
    Embedded,
    EventBatch,
    Failure,
    Finished,
    PromptInput,
    Scored,
    Token,
    WorkerRequest,
)
from serve.workers.shared_state import CheckpointList, SharedState, WorkerState

log = logging.getLogger("resonance.serve.worker")

SCORE, EMBED = "score", "embed"  # suffixes of the engine's request ids that score or embed a prompt
IDLE_WAIT = 0.5  # seconds that an idle worker waits for a request between two heartbeats
PAUSED_WAIT = 0.02  # seconds between two checks whether a paused request may resume
GENERATION_FAILED = Failure(500, "generation_failed", "The model failed on this request; the server goes on.")
MODEL_UNAVAILABLE = Failure(
    503, "model_unavailable", "The worker does not hold this model at the moment; its log says why."
)


@dataclass(slots=True)
class RunningRequest:
    """A request in the worker: how many of its prompts have started, and the engine requests that they became."""

    request: WorkerRequest
    started: int = 0  # prompts
    next_answer: int = 0  # index of the next prompt's first answer
    # engine request id -> the prompt's number, and the index of its first answer
    engine_requests: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    prompt_lengths: dict[str, int] = field(default_factory=dict[str, int])  # engine requests without a token yet
    batch_slots: int = 0  # unfinished answers, and prompts that are being scored
    paused: bool = False  # its reader is behind

    @property
    def next_prompt(self) -> PromptInput | None:
        """The first prompt that has not started."""
        return self.request.prompts[self.started] if self.started < len(self.request.prompts) else None

    def take_next(self) -> tuple[int, int]:
        """Mark the next prompt as started; return its number and the index of its first answer."""
        number, first_answer = self.started, self.next_answer
        self.started, self.next_answer = number + 1, first_answer + self.request.prompts[number].n
        return number, first_answer


class EngineWorker:
    """Takes requests, runs the engines' steps, and returns the events of each step."""

    def __init__(self, settings: EngineSettings, state: SharedState, checkpoints: CheckpointList) -> None:
        self.settings, self.state, self.checkpoints = settings, state, checkpoints

    def load(self, index: int, device: str) -> None:
        """Load every checkpoint; called once, in the worker's process. Raises what loading raises."""
        self.index = index
        self.state.set_worker_state(index, WorkerState.LOADING)
        try:
            self.engines = Engines(self.settings, self.checkpoints, index, device)
            self.engines.load()
        except Exception:
            self.state.set_worker_state(index, WorkerState.FAILED)
            raise
        self.requests: dict[str, RunningRequest] = {}
        self.cached_tokens = 0
        stats = next(iter(self.engines.running.values())).stats()
        self.state.set_precision(index, stats.precision)
        if index == 0:
            self.state.set_engine_notes(stats.notes)
            for note in stats.notes:
                log.warning("%s", note)
        self.state.set_worker_state(index, WorkerState.READY)

    def update_checkpoints(self) -> None:
        """Load and drop checkpoints as the checkpoint list says, and send a heartbeat."""
        self.engines.update({running.request.model for running in self.requests.values()})
        self.state.heartbeat(self.index)

    def has_capacity(self) -> bool:
        """Return whether an engine has a free slot in its batch; slots of paused requests count as free."""
        return any(used < self.settings.max_batch_size for used in self._used_slots().values())

    def idle_seconds(self) -> float:
        """Return how long the worker can wait for another request before its next step."""
        if not self.requests:
            return IDLE_WAIT
        can_step = any(engine.has_work for engine in self.engines.running.values())
        return 0.0 if can_step else PAUSED_WAIT

    def _used_slots(self) -> dict[str, int]:
        """Return each engine's batch slots in use, without those of paused requests."""
        used = dict.fromkeys(self.engines.running, 0)
        for running in self.requests.values():
            if not running.paused:
                used[running.request.model] += running.batch_slots
        return used

    def add_request(self, request: WorkerRequest) -> EventBatch:
        """Start a request. One whose client has gone, or that a worker has already claimed, is dropped."""
        slot = request.slot
        if self.state.is_claimed(slot):
            return []
        if not self.state.is_live(slot):
            self.state.increment("cancelled", self.index)
            return []
        if request.model not in self.engines.running:
            return [(slot.uid, MODEL_UNAVAILABLE)]
        self.state.claim(slot, self.index)
        running = self.requests[slot.uid] = RunningRequest(request)
        self.state.set_gauge("active", self.index, len(self.requests))
        return self._start_next_prompt(slot.uid, running)

    def _start_next_prompt(self, uid: str, running: RunningRequest) -> EventBatch:
        """Start a request's next prompt that needs computing; return its last event when nothing is left of it."""
        before = running.batch_slots
        while running.batch_slots == before and (prompt := running.next_prompt) is not None:
            number, first_answer = running.take_next()
            start = self._generate if prompt.score_top is None or len(prompt.ids) < 2 else self._score
            failed = (self._embed if prompt.embed else start)(uid, running, number, first_answer)
            if failed:
                return failed
        return self._finish_if_done(uid, running)

    def _score(self, uid: str, running: RunningRequest, number: int, first_answer: int) -> EventBatch:
        """Submit a prompt for its own log-probabilities; its answers follow."""
        prompt = running.request.prompts[number]
        request_id = f"{uid}/{number}/{SCORE}"
        running.engine_requests[request_id] = number, first_answer
        running.batch_slots += 1
        engine, top = self.engines.running[running.request.model], prompt.score_top or 0
        return self._submit(
            uid, lambda: engine.submit_score(prompt.ids[:1], prompt.ids[1:], top=top, request_id=request_id)
        )

    def _embed(self, uid: str, running: RunningRequest, number: int, first_answer: int) -> EventBatch:
        """Submit a prompt for its embedding."""
        prompt = running.request.prompts[number]
        request_id = f"{uid}/{number}/{EMBED}"
        running.engine_requests[request_id] = number, first_answer
        running.batch_slots += 1
        engine = self.engines.running[running.request.model]
        return self._submit(uid, lambda: engine.submit_embed(prompt.ids, request_id=request_id))

    def _generate(self, uid: str, running: RunningRequest, number: int, first_answer: int) -> EventBatch:
        """Submit a prompt for its answers, unless only its scores were requested."""
        prompt = running.request.prompts[number]
        if prompt.params is None:
            return []
        request_id = f"{uid}/{number}"
        running.engine_requests[request_id] = number, first_answer
        running.prompt_lengths[request_id] = len(prompt.ids)
        running.batch_slots += prompt.n
        engine, params = self.engines.running[running.request.model], prompt.params

        failed = self._submit(
            uid, lambda: engine.submit(prompt.ids, SamplingParams(**params, n=prompt.n), request_id=request_id)
        )
        if running.paused:
            engine.pause(request_id)
        return failed

    def _submit(self, uid: str, submit: Callable[[], object]) -> EventBatch:
        """Submit to the engine; return the request's failure when the engine refuses it."""
        try:
            submit()
        except EngineError as error:
            return [(uid, self._fail(uid, Failure(400, "invalid_request", str(error))))]
        except Exception as error:
            log.error("the engine did not take a request: %s at %s", type(error).__name__, error_location(error))
            return [(uid, self._fail(uid, GENERATION_FAILED))]
        return []

    def _start_further_prompts(self) -> EventBatch:
        """Start further prompts of requests with several.

        A request always runs one prompt, in the batch slot of the one before. The remaining free slots go to the
        requests with the fewest; one slot stays free, so that a new request can start however many prompts wait.
        """
        several = [
            (uid, running)
            for uid, running in self.requests.items()
            if running.next_prompt is not None and not running.paused
        ]
        if not several:
            return []
        events: EventBatch = []
        for uid, running in several:
            if not running.batch_slots:
                events += self._start_next_prompt(uid, running)
        free = {name: self.settings.max_batch_size - 1 - used for name, used in self._used_slots().items()}
        while several:
            uid, running = min(several, key=lambda entry: entry[1].batch_slots)
            prompt = running.next_prompt
            if uid not in self.requests or prompt is None or prompt.batch_slots > free[running.request.model]:
                several.remove((uid, running))
                continue
            free[running.request.model] -= prompt.batch_slots
            events += self._start_next_prompt(uid, running)
        return events

    def step(self) -> EventBatch:
        """Run one step of every engine that has work; return the events in order."""
        if not self.requests:
            return []
        events = self._drop_cancelled()
        self._pause_and_resume()
        events += self._start_further_prompts()
        batch = 0
        for name, engine in self.engines.running.items():
            if not engine.has_work:
                continue
            self.state.heartbeat(self.index)
            try:
                pieces = engine.step()
            except Exception as error:
                log.error("a step failed: %s at %s", type(error).__name__, error_location(error))
                failed = [uid for uid, running in self.requests.items() if running.request.model == name]
                events += [(uid, self._fail(uid, GENERATION_FAILED)) for uid in failed]
                continue
            self.state.increment("steps", self.index)
            batch += len(pieces)
            for request_id, piece in pieces:
                events += self._events_of(request_id, piece)
        self.state.set_gauge("batch", self.index, batch if self.requests else 0)
        return events

    def _events_of(self, request_id: str, piece: Piece) -> EventBatch:
        uid = request_id.partition("/")[0]
        running = self.requests.get(uid)
        if running is None:  # cancelled in this step
            return []
        number, first_answer = running.engine_requests[request_id]
        if request_id.endswith(SCORE):
            return self._score_events(uid, running, number, first_answer, piece)
        if request_id.endswith(EMBED):
            self.state.increment("prompt_tokens", self.index, len(running.request.prompts[number].ids))
            values = struct.pack(f"<{len(piece.embedding)}f", *piece.embedding)
            return [(uid, Embedded(number, values)), *self._free_batch_slot(uid, running)]
        if piece.token_id is not None:
            self.state.increment("generated_tokens", self.index)
            self.state.increment("prompt_tokens", self.index, running.prompt_lengths.pop(request_id, 0))
        token = Token(
            index=first_answer + piece.index,
            token_id=piece.token_id,
            text=piece.text,
            logprob=piece.logprob,
            top_logprobs=piece.top_logprobs,
            finish_reason=piece.finish_reason,
        )
        events: EventBatch = [(uid, token)]
        if piece.finish_reason:
            events += self._free_batch_slot(uid, running)
        return events

    def _score_events(
        self, uid: str, running: RunningRequest, number: int, first_answer: int, piece: Piece
    ) -> EventBatch:
        events: EventBatch = [(uid, Scored(number, [(score.logprob, score.top_logprobs) for score in piece.scores]))]
        if piece.finish_reason:
            prompt = running.request.prompts[number]
            if prompt.params is None:  # else they are counted when its answer starts
                self.state.increment("prompt_tokens", self.index, len(prompt.ids))
            # The answer starts while the scoring's KV cache is still there to be shared, and takes its batch slot.
            failed = self._generate(uid, running, number, first_answer)
            events += failed or self._free_batch_slot(uid, running)
        return events

    def _free_batch_slot(self, uid: str, running: RunningRequest) -> EventBatch:
        """Record that an answer or a scoring has ended."""
        running.batch_slots -= 1
        return self._finish_if_done(uid, running)

    def _finish_if_done(self, uid: str, running: RunningRequest) -> EventBatch:
        unfinished = running.batch_slots or running.next_prompt is not None
        return [] if unfinished else [(uid, self._finish(uid))]

    def _drop_cancelled(self) -> EventBatch:
        """Cancel requests that have lost their slot or passed their deadline, before any time is spent on them."""
        events: EventBatch = []
        now = time.monotonic()
        for uid, running in list(self.requests.items()):
            released = not self.state.is_live(running.request.slot)
            if released or now > running.request.deadline:
                failure = self._fail(uid, TIMED_OUT)
                self.state.increment("cancelled", self.index)
                if not released:
                    events.append((uid, failure))
        return events

    def _pause_and_resume(self) -> None:
        """Pause requests whose readers are behind; resume those whose readers have caught up."""
        for running in self.requests.values():
            paused = self.state.is_paused(running.request.slot)
            if paused == running.paused:
                continue
            running.paused = paused
            engine = self.engines.running[running.request.model]
            for request_id in running.engine_requests:
                if paused:
                    engine.pause(request_id)
                else:
                    engine.resume(request_id)

    def _fail(self, uid: str, failure: Failure) -> Failure:
        running = self.requests[uid]
        for request_id in running.engine_requests:
            self.engines.running[running.request.model].cancel(request_id)
        self._finish(uid)
        return failure

    def _finish(self, uid: str) -> Finished:
        del self.requests[uid]
        self.state.set_gauge("active", self.index, len(self.requests))
        cached = sum(engine.stats().cached_tokens for engine in self.engines.running.values())
        self.state.increment("cached_tokens", self.index, cached - self.cached_tokens)
        self.cached_tokens = cached
        return Finished()
