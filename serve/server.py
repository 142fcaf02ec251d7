"""LitServe's server with what it lacks: an honest start, watched processes, and an end that leaves nothing behind.

It overrides a few of LitServe 0.2.19's own methods; the version is pinned for their sake.
"""

import asyncio
import gc
import logging
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from multiprocessing.connection import wait
from multiprocessing.managers import SyncManager
from types import FrameType
from typing import Any

from fastapi import FastAPI
from litserve import LitServer

from serve.http.service import Service
from serve.inference.leases import LeaseTable, WorkerState
from serve.inference.line import Line
from serve.inference.parent import exit_with_parent
from serve.inference.worker import EngineWorker
from serve.settings import Settings

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

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        """As LitServe does it, with a manager that ends with this process."""
        manager = SyncManager(ctx=mp.get_context("fork"))
        manager.start(_in_manager)
        self.transport_config.manager = manager  # type: ignore[union-attr]
        self.transport_config.num_consumers = num_api_servers  # type: ignore[union-attr]
        self.workers_setup_status = manager.dict()
        self._shutdown_event = manager.Event()
        self.litapi_request_queues = {api.api_path: manager.Queue() for api in self.litapi_connector}
        self._transport = Line()
        self._manager = manager
        return manager

    def verify_worker_status(self) -> None:
        """Do not wait for the model: /health says that it is being loaded."""

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
        """Replace workers that die, end those that hang, stop everything when another process is gone."""
        started = [time.monotonic()] * len(self.inference_workers)
        attempts = [0] * len(self.inference_workers)
        greeted = False
        while not self.ending:
            vital = [process.sentinel for process in http]
            dead = wait([*vital, *(worker.sentinel for worker in self.inference_workers)], timeout=0.25)
            if self.ending:
                return
            if any(sentinel in vital for sentinel in dead):
                self._stop("The HTTP process died; stopping.")
                return
            for i, worker in enumerate(self.inference_workers):
                if worker.is_alive():
                    self._end_if_hanging(i, worker)
                    continue
                failed_to_load = self.table.state(i) == WorkerState.FAILED
                if failed_to_load and not greeted:
                    self._stop("The model could not be loaded; its error stands above.")
                    return
                self.table.bury(i)
                if time.monotonic() - started[i] > STABLE_SECONDS:
                    attempts[i] = 0
                delay = RESTART_AFTER[min(attempts[i], len(RESTART_AFTER) - 1)]
                log.error("worker %d died with exit code %s; starting it again in %g s", i, worker.exitcode, delay)
                time.sleep(delay)
                attempts[i] += 1
                self.table.set_state(i, WorkerState.LOADING)
                self.inference_workers[i] = self.launch_single_inference_worker(self.lit_api, i)  # type: ignore[arg-type]
                started[i] = time.monotonic()
            if not greeted and self.table.state(0) == WorkerState.READY:
                greeted = True
                self._greet()

    def _end_if_hanging(self, i: int, worker: Any) -> None:
        ready = self.table.state(i) == WorkerState.READY
        if ready and self.table.silence(i) > self.settings.hang_s:
            log.error("worker %d has shown no sign of life for %g s; ending it", i, self.settings.hang_s)
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


def _in_manager() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process decides
    exit_with_parent()
