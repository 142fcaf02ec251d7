"""The worker's loop: take what there is room for, compute one step, send what it brought.

LitServe's own continuous loop prefills on another thread than it decodes on, spins when idle and never cancels;
this one is synchronous. Nothing may escape from it but what should end the process.
"""

import pickle
from typing import TYPE_CHECKING, cast

from litserve.loops import ContinuousBatchingLoop
from litserve.transport.base import MessageTransport
from litserve.utils import LitAPIStatus, LoopResponseType

from serve.workers.messages import Event
from serve.workers.transport import Jobs

if TYPE_CHECKING:
    from serve.workers.worker import EngineWorker

STEP = "step"
"""The name under which the events of a whole step travel in one message."""
STATUS_OK = cast(LitAPIStatus, LitAPIStatus.OK)  # a plain string, whatever LitServe says of it
IDLE_WAIT = 0.5  # seconds; how long an idle worker waits for a job between two heartbeats
PAUSED_WAIT = 0.02  # seconds between two looks at whether a paused job may go on


class EngineLoop(ContinuousBatchingLoop):
    """Continuous batching over the engines of an EngineWorker."""

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]  # LitServe calls a plain function in its loop
        self,
        lit_api: "EngineWorker",
        device: str,
        worker_id: int,
        request_queue: Jobs,
        transport: MessageTransport,
        workers_setup_status: dict[int, str],
        callback_runner: object,
    ) -> None:
        """One turn: LitServe calls it for ever."""
        lit_api.follow()
        events = self._take(lit_api, request_queue)
        if lit_api.has_active_requests():
            events += lit_api.step()
        if events:
            self.put_response(transport, 0, STEP, pickle.dumps(events), STATUS_OK, LoopResponseType.STREAMING)

    def _take(self, lit_api: "EngineWorker", jobs: Jobs) -> list[tuple[str, Event]]:
        """Jobs while there is room; waits for one when there is nothing else to do."""
        events: list[tuple[str, Event]] = []
        lit_api.table.beat(lit_api.worker)
        while lit_api.has_capacity():
            wait = IDLE_WAIT if not lit_api.has_active_requests() else 0.0 if lit_api.can_step() else PAUSED_WAIT
            job = jobs.get(0.0 if events else wait)
            if job is None:
                break
            events += lit_api.add_request(job)
        return events
