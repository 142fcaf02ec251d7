"""LitServe's server with what it lacks: an honest start, watched processes, and an end that leaves nothing behind.

It overrides a few of LitServe 0.2.19's own methods; the version is pinned for their sake.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from fastapi import FastAPI
from litserve import LitServer

from serve.api.service import Service
from serve.settings import Settings
from serve.workers.parent import exit_with_parent
from serve.workers.shared_state import LeaseTable, WorkerState
from serve.workers.transport import Jobs, Line
from serve.workers.worker import EngineWorker

log = logging.getLogger("resonance.serve")

RESTART_AFTER = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a worker's first, second, ... restart in a row
LAST_WORDS = 3  # seconds past the grace time, in which answers that are ended say so
SPINS = "20000"  # of a worker's idle thread before it sleeps (GNU OpenMP): about as long as between two calls
STABLE_SECONDS = 60.0  # a worker that has run for so long starts again from the first


class Server(LitServer):
    """Workers are watched and replaced; the HTTP process answers from the first moment on."""

    def __init__(self, settings: Settings, table: LeaseTable, worker: EngineWorker, device: str, workers: int) -> None:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # far more is usual, and taken from the HTTP process
        super().__init__(
            worker,
            accelerator=device,  # type: ignore[arg-type]  # a Literal there; configs/serve.yaml's value was checked
            devices=workers,
            timeout=False,
            restart_workers=True,
        )
        self.settings, self.table = settings, table
        self.uvicorn_graceful_timeout = settings.grace_s + LAST_WORDS
        self.ending = self.failed = False
        self.service: Service | None = None
        self._main = os.getpid()

    # What LitServe calls

    def _register_internal_endpoints(self) -> None:
        """None of LitServe's own: the app has its /health, and / is the page."""

    def _init_manager(self, num_api_servers: int) -> Any:
        """What LitServe keeps in a process of its own, without it: two lines, and what only the main process asks."""
        jobs, self._transport = Jobs(), Line()
        self.litapi_request_queues = {api.api_path: jobs for api in self.litapi_connector}
        self.workers_setup_status = {}  # the table has the workers' states
        self._shutdown_event = threading.Event()
        return jobs

    def verify_worker_status(self) -> None:
        """Do not wait for the model: /health says that it is being loaded."""

    def _start_server(
        self,
        port: int,
        num_uvicorn_servers: int,
        log_level: str,
        sockets: list[socket.socket],
        uvicorn_worker_type: str,
        **options: Any,
    ) -> dict[int, Any]:
        """As LitServe does it, and leave the port to the HTTP process: it is closed when that one takes no more."""
        http = super()._start_server(port, num_uvicorn_servers, log_level, sockets, uvicorn_worker_type, **options)
        for listening in sockets:
            listening.close()
        return http

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """The life of the HTTP process."""
        exit_with_parent()
        assert self.service is not None
        async with super().lifespan(app), self.service.running():
            self._end_answers_in_time()
            gc.freeze()  # what stays for good is not gone through again while requests wait
            yield

    def _end_answers_in_time(self) -> None:
        """From SIGTERM on, answers have the grace time; uvicorn would cut them off without a word."""
        loop, ending = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        assert self.service is not None and callable(ending)
        spec, grace, uvicorns = self.service.spec, self.settings.grace_s, ending

        def drain(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(loop.call_later, grace, spec.end)
            uvicorns(number, frame)

        signal.signal(signal.SIGTERM, drain)

    def _start_worker_monitoring(self, manager: Any, uvicorn_workers: dict[str, Any]) -> None:
        self.uvicorn_graceful_timeout += 5  # from here on it is how long LitServe waits for the HTTP process to end
        threading.Thread(
            target=self._watch, args=(list(uvicorn_workers.values()),), name="watch-processes", daemon=True
        ).start()

    # Watching

    def _watch(self, http: list[Any]) -> None:
        """Replace workers that die, end those that hang, stop everything when the HTTP process is gone."""
        lives = [_Life(time.monotonic()) for _ in self.inference_workers]
        vital = [process.sentinel for process in http]
        greeted = False
        while not self.ending:
            running = [
                worker.sentinel for worker, life in zip(self.inference_workers, lives, strict=True) if not life.over
            ]
            dead = wait([*vital, *running], timeout=0.25)
            if self.ending:
                return
            if any(sentinel in vital for sentinel in dead):
                self._stop("The HTTP process died; stopping.")
                return
            for i, (worker, life) in enumerate(zip(self.inference_workers, lives, strict=True)):
                if life.over:
                    self._start_again_when_due(i, life)
                elif worker.is_alive():
                    self._end_if_hanging(i, worker, life)
                elif self.table.state(i) == WorkerState.FAILED and not greeted:
                    self._stop("The model could not be loaded; its error stands above.")
                    return
                else:
                    self.table.bury(i)
                    log.error(
                        "worker %d died with exit code %s; starting it again in %g s", i, worker.exitcode, life.end()
                    )
            if not greeted and self.table.state(0) == WorkerState.READY:
                greeted = True
                self._greet()

    def _start_again_when_due(self, i: int, life: "_Life") -> None:
        if time.monotonic() >= life.again_at:
            self.table.set_state(i, WorkerState.LOADING)
            api: Any = self.lit_api  # one, though LitServe could have a list
            self.inference_workers[i] = self.launch_single_inference_worker(api, i)
            life.begin()

    def _end_if_hanging(self, i: int, worker: Any, life: "_Life") -> None:
        """Kill a worker without a sign of life, once: one with much memory takes its time to be gone."""
        ready = self.table.state(i) == WorkerState.READY
        if ready and not life.killed and self.table.silence(i) > self.settings.hang_s:
            log.error("worker %d has shown no sign of life for %g s; ending it", i, self.settings.hang_s)
            life.killed = True
            worker.kill()

    def _stop(self, why: str) -> None:
        print(f"Error: {why}", file=sys.stderr, flush=True)
        self.failed = True
        os.kill(self._main, signal.SIGTERM)

    def _greet(self) -> None:
        host = "127.0.0.1" if self.settings.host != "::" else "[::1]"
        names = ", ".join(self.settings.engine.checkpoints)
        url = f"http://{host}:{self.settings.port}"
        print(f"Resonance serves {names} at {url} (API: {url}/docs). Ctrl-C ends it.", flush=True)


@dataclass(slots=True)
class _Life:
    """A worker's present life, and how often in a row it was short; times are of the monotonic clock in seconds."""

    began: float
    over: bool = False
    killed: bool = False
    again_at: float = 0.0
    short_ones: int = 0

    def end(self) -> float:
        """It died; return the seconds after which it should live again."""
        now = time.monotonic()
        if now - self.began > STABLE_SECONDS:
            self.short_ones = 0
        delay = RESTART_AFTER[min(self.short_ones, len(RESTART_AFTER) - 1)]
        self.over, self.again_at, self.short_ones = True, now + delay, self.short_ones + 1
        return delay

    def begin(self) -> None:
        """It lives again."""
        self.began, self.over, self.killed = time.monotonic(), False, False
