"""`resonance serve`: from overrides to a running server."""

import logging
import os
import signal
import socket
import sys
from functools import partial
from types import FrameType

import torch

from resonance.errors import ResonanceError
from resonance.retrieval import build_retriever
from serve.api.app import build
from serve.api.auth import KeyRing
from serve.api.service import Service
from serve.generation.event_stream import EventStreams
from serve.generation.shadow import Shadow
from serve.middleware.rate_limits import ExportLimiter, RateLimiter
from serve.middleware.uvicorn_protocol import BoundedProtocol, ConnectionLimiter
from serve.models.memory_budget import MemoryBudget
from serve.models.registry import ModelRegistry
from serve.models.served_model import open_models
from serve.owners import keys_file
from serve.settings import SHADOW, Settings, read_settings
from serve.storage.store import Store
from serve.stored_files import restrict_stored_files
from serve.telemetry.metrics import Metrics
from serve.workers.client import WorkerClient
from serve.workers.shared_state import CheckpointList, SharedState
from serve.workers.supervisor import Server
from serve.workers.worker import EngineWorker


class ServeError(ResonanceError):
    """The server cannot start."""


def main(overrides: list[str]) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises ResonanceError, in one sentence, for whatever cannot be served."""
    settings = read_settings(overrides)
    _configure_logging(settings.log)
    restrict_stored_files(settings)
    _check_port(settings.host, settings.port)
    server = make_server(settings)
    interrupted = _end_on_signals(server)
    server.run(
        host=settings.host,
        port=settings.port,
        num_api_servers=1,  # sessions, replays and quotas live in one process
        log_level="warning",
        generate_client_file=False,
        access_log=False,
        server_header=False,
        http=partial(
            BoundedProtocol,
            connections=ConnectionLimiter(settings.limits.connections, settings.limits.connections_per_address),
            receive_seconds=settings.limits.receive_s,
            write_seconds=settings.limits.write_s,
        ),
        ws="none",
        backlog=2048,
    )
    if server.failed:
        sys.exit(1)
    if interrupted:
        raise KeyboardInterrupt


def make_server(settings: Settings) -> Server:
    """Build the server without running it. Raises ResonanceError for checkpoints that cannot be served."""
    models = open_models(settings.engine.checkpoints, settings.context_length)
    refusal = MemoryBudget(settings.engine, settings.memory_gb).refusal_at_start([m.config for m in models.values()])
    if refusal is not None:
        raise ServeError(refusal)
    shadow_model = models.pop(SHADOW, None)
    retriever = (
        build_retriever(**settings.search, retention_days=settings.store.retention_days) if settings.search else None
    )
    slots = settings.engine.max_batch_size * len(models) + settings.max_queue
    device, workers = devices(settings.device)
    state = SharedState(slots, workers)
    checkpoints = CheckpointList(settings.engine.checkpoints, workers)
    client = WorkerClient(state)
    server = Server(settings, state, EngineWorker(settings.engine, state, checkpoints), client, device, workers)
    store, metrics = Store(settings.store.url, settings.store.max_bytes), Metrics(state, client.undelivered)
    asks = settings.store.training_consent == "ask"
    server.service = Service(
        settings=settings,
        models=ModelRegistry(settings, models, checkpoints, client, shadow_model),
        device=device,
        state=state,
        client=client,
        keys=KeyRing(settings.api_keys, keys_file(), open=not settings.requires_keys, closes=settings.auth == "auto"),
        store=store,
        retriever=retriever,
        metrics=metrics,
        rate_limiter=RateLimiter(settings.limits),
        streams=EventStreams(settings.limits.answers_bytes, settings.limits.answer_bytes, settings.resume_s),
        export_limiter=ExportLimiter(settings.limits.exports),
        shadow=None
        if shadow_model is None
        else Shadow(shadow_model, settings.share, client, store, metrics, asks=asks),
    )
    build(server.app, server.service)
    return server


def devices(device: str) -> tuple[str, int]:
    """Return the device's type and the number of workers, one per GPU. Raises ServeError for a missing GPU."""
    found = 0 if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and not found:
        raise ServeError("device=cuda: there is no GPU here that torch can use; say device=cpu or device=auto.")
    return ("cuda", found) if found else ("cpu", 1)


def _check_port(host: str, port: int) -> None:
    """Raise ServeError while the port is taken; uvicorn would end the process with a log line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"Port {port} on {host} cannot be used ({error.strerror}); choose another port=."
            ) from error


def _end_on_signals(server: Server) -> list[int]:
    """End the server cleanly on SIGTERM and SIGINT; the returned list gets an entry on SIGINT."""
    main_process = os.getpid()
    interrupted: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != main_process:
            os._exit(0)
        if server.ending:
            return
        server.ending = True
        if number == signal.SIGINT:
            interrupted.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return interrupted


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.WARNING, stream=sys.stderr
    )
    logging.getLogger("resonance").setLevel(level.upper())
