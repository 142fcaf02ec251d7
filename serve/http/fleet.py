"""Which checkpoints are served, and how that changes while the server runs: load, unload, read again.

A checkpoint is known here (tokenizer, template) and held by the workers (weights); it is served once both is true.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from serve.http.errors import ApiError
from serve.http.models import ServedModel
from serve.inference.leases import LeaseTable, WorkerState
from serve.inference.roster import Roster
from serve.settings import Settings

LOAD_SECONDS = 600.0  # how long workers may take to load a checkpoint
BYTES = {"fp32": 4.0, "auto": 4.0, "bf16": 2.0, "int8": 1.25, "int4": 0.75}  # a parameter, with its scales
MEMINFO = Path("/proc/meminfo")


class Fleet:
    """The served models by name; the first answers when a request names none."""

    def __init__(
        self, settings: Settings, models: Mapping[str, ServedModel], roster: Roster, table: LeaseTable
    ) -> None:
        self._settings, self._models, self._roster, self._table = settings, dict(models), roster, table
        self._folders = dict(settings.engine.checkpoints)  # by the roster's keys
        self._readings = 0
        self._changing = asyncio.Lock()

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def first(self) -> ServedModel:
        """The model that answers when a request names none."""
        return next(iter(self))

    def get(self, name: str) -> ServedModel:
        """The model of that name. Raises ApiError 404."""
        if name not in self._models:
            raise ApiError(
                404,
                f"There is no model {name[:80]!r} here; there are: {', '.join(self._models)}.",
                param="model",
                code="model_not_found",
            )
        return self._models[name]

    async def load(self, what: str) -> ServedModel:
        """Serve one more of the runs or base models. Raises ApiError when it cannot be read or has no room."""
        async with self._changing:
            model = await self._open(what)
            if model.name in self._models:
                raise ApiError(409, "This checkpoint is served already.", param="checkpoint", code="already_loaded")
            await self._hold(model)
            self._models[model.name] = model
            return model

    async def reload(self, name: str) -> ServedModel:
        """Read a served checkpoint again. Answers under way go on with the old weights. Raises ApiError."""
        async with self._changing:
            old = self.get(name)
            model = replace(await self._open(old.folder), name=old.name)
            model = await self._hold(model)
            self._models[name] = model
            self._drop(old.key)
            return model

    async def unload(self, name: str) -> None:
        """Serve a checkpoint no more. Answers under way finish. Raises ApiError 409 for the last one."""
        async with self._changing:
            model = self.get(name)
            if len(self._models) == 1:
                raise ApiError(409, "The last model stays; load another one first.", code="last_model")
            del self._models[name]
            self._drop(model.key)

    async def _open(self, what: str) -> ServedModel:
        def find() -> ServedModel:
            checkpoint = Checkpoint.find(what, self._settings.root)
            return ServedModel.open(checkpoint.name, str(checkpoint.folder.resolve()), self._settings.context_length)

        try:
            model = await asyncio.to_thread(find)
        except ResonanceError as error:
            raise ApiError(400, str(error), param="checkpoint", code="checkpoint_unusable") from error
        self._readings += 1
        return replace(model, key=f"{model.name}#{self._readings}")

    async def _hold(self, model: ServedModel) -> ServedModel:
        """Let every worker load the model; take it back when one cannot."""
        self._check_room(model)
        self._folders[model.key] = model.folder
        version = self._roster.write(self._folders)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                while not all(self._roster.applied(worker, version) for worker in self._ready()):
                    await asyncio.sleep(0.05)
        except BaseException as error:
            self._drop(model.key)
            if isinstance(error, TimeoutError):
                raise ApiError(503, "The workers did not load it in time.", code="load_failed") from error
            raise
        if any(self._roster.failed(worker, version) for worker in self._ready()):
            self._drop(model.key)
            raise ApiError(503, "A worker could not load it; the server's log says why.", code="load_failed")
        return model

    def _ready(self) -> list[int]:
        ready = [w for w in range(self._table.workers) if self._table.state(w) == WorkerState.READY]
        if not ready:
            raise ApiError(503, "The model is being loaded.", code="not_ready", retry_after=2)
        return ready

    def _drop(self, key: str) -> None:
        self._folders.pop(key, None)
        self._roster.write(self._folders)

    def _check_room(self, model: ServedModel) -> None:
        needed, budget = self._bytes(model), self._settings.memory_gb
        room = _available() if budget is None else budget * 1e9 - sum(map(self._bytes, self))
        if needed > room:
            raise ApiError(
                409,
                f"It needs about {needed / 1e9:.2f} GB and there is room for {max(0.0, room) / 1e9:.2f} GB; unload "
                "another one first.",
                param="checkpoint",
                code="memory_budget",
            )

    def _bytes(self, model: ServedModel) -> float:
        """What a model takes at most: its weights, and keys and values of a full batch."""
        engine = self._settings.engine
        weights = model.parameters * BYTES[engine.quantize or engine.dtype]
        cached = 2 * model.config.n_layer * model.config.n_embd * model.context_length * engine.max_batch_size
        return weights + cached * 4.0


def _available() -> float:
    """Bytes that new processes may take without swapping; unknown is endless."""
    if not MEMINFO.is_file():
        return float("inf")
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
    return float(lines["MemAvailable"].split()[0]) * 1024
