"""Everything that overrides or relies on LitServe's internals; the version is pinned for its sake.

A test compares the signatures with the installed LitServe. Its continuous loop prefills on another thread than it
decodes on, spins when idle and never cancels; its queues live in a third process; it serves only after all models are
loaded, and does not notice workers that hang.
"""

import asyncio
import multiprocessing as mp
import os
import pickle
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec
from litserve.utils import LitAPIStatus, LoopResponseType, ResponseBufferItem

from serve.workers.client import WorkerClient
from serve.workers.messages import EventBatch, WorkerRequest
from serve.workers.transport import EventChannel, RequestQueue
from serve.workers.worker import EngineWorker

STEP = "step"
"""The uid under which the events of a whole step travel in one message."""
SHUTDOWN_EVENT_SECONDS = 3  # past the grace time, to send clients the error event that ends their answers
HTTP_JOIN_SECONDS = 5  # past that, until LitServe kills the HTTP process


class WorkerSpec(LitSpec):
    """Connects the client to LitServe's request queue and response buffer. It registers no endpoints of its own."""

    def __init__(self, client: WorkerClient) -> None:
        super().__init__()
        self.api_path = "/v1/chat/completions"  # LitServe names the request queue after it
        self.client: WorkerClient | None = client

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"response_buffer": None, "request_queue": None, "client": None}

    @property
    def stream(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # LitSpec says Literal[False]
        """Every answer is a stream of events."""
        return True

    def setup(self, server: LitServer) -> None:
        """Connect the client; LitServe calls this before it starts a worker."""
        super().setup(server)
        assert self.client is not None
        self.client.queue = self.request_queue
        sink: Any = _EventSink(self.client.deliver)
        server.response_buffer[STEP] = ResponseBufferItem(event=sink, response_queue=sink)


class _EventSink:
    """Stands in LitServe's response buffer as both queue and event, so that one message serves a whole step."""

    def __init__(self, deliver: Callable[[EventBatch], None]) -> None:
        self._deliver = deliver

    def append(self, response: tuple[EventBatch, str]) -> None:
        """Hand the events of one message on."""
        self._deliver(response[0])

    def set(self) -> None:
        """Do nothing: `append` has delivered the events."""


class EngineApi(LitAPI):
    """LitServe's view of an EngineWorker."""

    def __init__(self, worker: EngineWorker, spec: WorkerSpec) -> None:
        super().__init__(max_batch_size=worker.settings.max_batch_size, spec=spec, loop=EngineLoop())
        self.worker = worker

    def setup(self, device: str) -> None:
        """Load every checkpoint; called once in the worker's process."""
        exit_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the main process decides
        self.worker.load(int(os.environ["LITSERVE_WORKER_ID"]), device)

    def decode_request(self, request: bytes, **_: Any) -> WorkerRequest:
        """Unpickle a request."""
        return pickle.loads(request)

    def encode_response(self, output: EventBatch, **_: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a step's events as the message that LitServe's reader expects; the channel pickles it."""
        return STEP, (output, LitAPIStatus.OK, LoopResponseType.STREAMING, self.worker.index)


class EngineLoop(LitLoop):
    """Continuous batching over the engines of an EngineWorker. An exception here ends the worker's process."""

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]  # LitServe calls a plain function in its loop
        self,
        lit_api: EngineApi,
        device: str,
        worker_id: int,
        request_queue: RequestQueue,
        transport: EventChannel,
        workers_setup_status: dict[int, str],
        callback_runner: object,
    ) -> None:
        """Take requests while there is capacity, run one step, send its events. LitServe calls this for ever."""
        worker = lit_api.worker
        worker.update_checkpoints()
        events: EventBatch = []
        while worker.has_capacity():
            request = request_queue.get(0.0 if events else worker.idle_seconds())
            if request is None:
                break
            events += worker.add_request(lit_api.decode_request(request))
        events += worker.step()
        if events:
            transport.send(lit_api.encode_response(events), 0)


class AdaptedServer(LitServer):
    """LitServe's server with our channels, our lifespan and our supervision of its processes."""

    def __init__(self, worker: EngineWorker, client: WorkerClient, device: str, workers: int, grace_s: float) -> None:
        super().__init__(
            EngineApi(worker, WorkerSpec(client)),
            accelerator=device,  # type: ignore[arg-type]  # a Literal there; configs/serve.yaml's value was checked
            devices=workers,
            timeout=False,
            restart_workers=True,
        )
        self._client, self._grace_s = client, grace_s
        self.uvicorn_graceful_timeout = grace_s + SHUTDOWN_EVENT_SECONDS

    def running(self) -> AbstractAsyncContextManager[None]:
        """Return what must be open while the HTTP process serves."""
        raise NotImplementedError

    def supervise(self, http: list[BaseProcess]) -> None:
        """Watch the HTTP processes and `inference_workers`; called on a thread of the main process."""
        raise NotImplementedError

    def start_worker(self, index: int) -> BaseProcess:
        """Start one worker's process again."""
        api: Any = self.lit_api  # one, though LitServe could have a list
        worker = self.inference_workers[index] = self.launch_single_inference_worker(api, index)
        return worker

    # What LitServe calls

    def _register_internal_endpoints(self) -> None:
        """Register none of LitServe's endpoints: the app has its own /health, and / is the page."""

    def _init_manager(self, num_api_servers: int) -> Any:
        """Create the two channels in place of LitServe's manager process; `shutdown` is all that LitServe calls."""
        queue, self._transport = RequestQueue(), EventChannel()
        self.litapi_request_queues = {api.api_path: queue for api in self.litapi_connector}
        self.workers_setup_status = {}  # SharedState has the workers' states
        self._shutdown_event = threading.Event()
        return queue

    def verify_worker_status(self) -> None:
        """Do not wait for the models: /health says that they are being loaded."""

    def _start_server(
        self,
        port: int,
        num_uvicorn_servers: int,
        log_level: str,
        sockets: list[socket.socket],
        uvicorn_worker_type: str,
        **options: Any,
    ) -> dict[int, Any]:
        """Close the main process's copy of the port, so that it is closed when the HTTP process stops listening."""
        http = super()._start_server(port, num_uvicorn_servers, log_level, sockets, uvicorn_worker_type, **options)
        for listening in sockets:
            listening.close()
        return http

    def _start_worker_monitoring(self, manager: Any, uvicorn_workers: dict[str, Any]) -> None:
        self.uvicorn_graceful_timeout += HTTP_JOIN_SECONDS  # from here on LitServe uses it to join the HTTP process
        http = list(uvicorn_workers.values())
        threading.Thread(target=self.supervise, args=(http,), name="supervise", daemon=True).start()

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """Run the HTTP process."""
        exit_with_parent()
        async with super().lifespan(app), self.running():
            self._end_answers_after_grace_time()
            yield

    def _end_answers_after_grace_time(self) -> None:
        """After SIGTERM, end answers when the grace time is over; uvicorn would cut them off without a message."""
        loop, uvicorns = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        assert callable(uvicorns)

        def drain(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(loop.call_later, self._grace_s, self._client.end_all)
            uvicorns(number, frame)

        signal.signal(signal.SIGTERM, drain)


def exit_with_parent() -> None:
    """End this process as soon as its parent is gone, however the parent ended."""
    parent = mp.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
