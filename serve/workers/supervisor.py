"""The server: LitServe's, with supervised processes: dead workers are restarted, hanging ones killed."""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from serve.api.service import Service
from serve.settings import Settings
from serve.workers.client import WorkerClient
from serve.workers.litserve_adapter import AdaptedServer
from serve.workers.shared_state import SharedState, WorkerState
from serve.workers.worker import EngineWorker

log = logging.getLogger("resonance.serve")

RESTART_DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a worker's first, second, ... restart in a row
STABLE_SECONDS = 60.0  # a worker that ran for this long restarts with the first delay again
SPIN_COUNT = "20000"  # of a worker's idle OpenMP thread before it sleeps (GNU): about the time between two calls


class Server(AdaptedServer):
    """Serves HTTP from the first moment on, and supervises the workers."""

    def __init__(
        self,
        settings: Settings,
        state: SharedState,
        worker: EngineWorker,
        client: WorkerClient,
        device: str,
        workers: int,
    ) -> None:
        # GNU OpenMP's default is far higher, and takes processor time from the HTTP process.
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        super().__init__(worker, client, device, workers, settings.grace_s)
        self.settings, self.state = settings, state
        self.ending = self.failed = False
        self.service: Service | None = None
        self._main = os.getpid()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open the service in the HTTP process."""
        assert self.service is not None
        async with self.service.running():
            gc.freeze()  # long-lived objects are not scanned again while requests wait
            yield

    def supervise(self, http: list[BaseProcess]) -> None:
        """Restart workers that die, kill those that hang, stop everything when the HTTP process dies."""
        lives = [_Life(time.monotonic()) for _ in self.inference_workers]
        http_sentinels = [process.sentinel for process in http]
        announced = False
        while not self.ending:
            running = [
                worker.sentinel for worker, life in zip(self.inference_workers, lives, strict=True) if not life.over
            ]
            dead = wait([*http_sentinels, *running], timeout=0.25)
            if self.ending:
                return
            if any(sentinel in http_sentinels for sentinel in dead):
                self._stop("The HTTP process died; stopping.")
                return
            for i, (worker, life) in enumerate(zip(self.inference_workers, lives, strict=True)):
                if life.over:
                    self._restart_when_due(i, life)
                elif worker.is_alive():
                    self._kill_if_hanging(i, worker, life)
                elif self.state.worker_state(i) == WorkerState.FAILED and not announced:
                    self._stop("The model could not be loaded; its error stands above.")
                    return
                else:
                    self.state.mark_dead(i)
                    log.error("worker %d died with exit code %s; restarting it in %g s", i, worker.exitcode, life.end())
            if not announced and self.state.worker_state(0) == WorkerState.READY:
                announced = True
                self._announce()

    def _restart_when_due(self, i: int, life: "_Life") -> None:
        if time.monotonic() >= life.restart_at:
            self.state.set_worker_state(i, WorkerState.LOADING)
            self.start_worker(i)
            life.start()

    def _kill_if_hanging(self, i: int, worker: Any, life: "_Life") -> None:
        """Kill a worker without heartbeats, once: a process with much memory takes a while to end."""
        ready = self.state.worker_state(i) == WorkerState.READY
        if ready and not life.killed and self.state.seconds_since_heartbeat(i) > self.settings.hang_s:
            log.error("worker %d has shown no sign of life for %g s; killing it", i, self.settings.hang_s)
            life.killed = True
            worker.kill()

    def _stop(self, why: str) -> None:
        print(f"Error: {why}", file=sys.stderr, flush=True)
        self.failed = True
        os.kill(self._main, signal.SIGTERM)

    def _announce(self) -> None:
        host = "127.0.0.1" if self.settings.host != "::" else "[::1]"
        names = ", ".join(self.settings.engine.checkpoints)
        url = f"http://{host}:{self.settings.port}"
        print(f"Resonance serves {names} at {url} (API: {url}/docs). Ctrl-C ends it.", flush=True)


@dataclass(slots=True)
class _Life:
    """A worker's current process, and how many of its processes in a row died early.

    Times are of the monotonic clock in seconds.
    """

    started_at: float
    over: bool = False
    killed: bool = False
    restart_at: float = 0.0
    early_deaths: int = 0

    def end(self) -> float:
        """Record that the process died; return the delay of its restart in seconds."""
        now = time.monotonic()
        if now - self.started_at > STABLE_SECONDS:
            self.early_deaths = 0
        delay = RESTART_DELAYS[min(self.early_deaths, len(RESTART_DELAYS) - 1)]
        self.over, self.restart_at, self.early_deaths = True, now + delay, self.early_deaths + 1
        return delay

    def start(self) -> None:
        """Record that a new process runs."""
        self.started_at, self.over, self.killed = time.monotonic(), False, False
