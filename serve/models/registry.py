"""Which checkpoints are served, and how that changes while the server runs: load, unload, read again.

A checkpoint is known here (tokenizer, template) and held by the workers (weights); it is served once both is true.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from serve.api.errors import ApiError
from serve.models.memory_budget import Room
from serve.models.served_model import ServedModel
from serve.settings import Settings
from serve.workers.checkpoint_list import Roster
from serve.workers.client import ApiSpec
from serve.workers.shared_state import LeaseTable, WorkerState

LOAD_SECONDS = 600.0  # how long workers may take to load a checkpoint
LOOK_EVERY = 0.05  # seconds between two looks at what the workers have done


class Fleet:
    """The served models by name; the first answers when a request names none."""

    def __init__(
        self,
        settings: Settings,
        models: Mapping[str, ServedModel],
        roster: Roster,
        table: LeaseTable,
        spec: ApiSpec,
    ) -> None:
        self._settings, self._models, self._roster, self._table, self._spec = (
            settings,
            dict(models),
            roster,
            table,
            spec,
        )
        self._held = {model.key: model for model in models.values()}  # by the workers: also for answers under way
        self._room = Room(settings.engine, settings.memory_gb)
        self._readings = 0
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

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
            checkpoint = await self._found(Checkpoint.find_named, what, self._settings.root)
            if checkpoint.name in self._models:
                raise ApiError(409, "This checkpoint is served already.", param="checkpoint", code="already_loaded")
            model = await self._open(checkpoint, checkpoint.name)
            self._models[model.name] = model
            return model

    async def reload(self, name: str) -> ServedModel:
        """Read a served checkpoint again. What was asked before goes on with the old weights. Raises ApiError."""
        async with self._changing:
            old = self.get(name)
            model = await self._open(await self._found(Checkpoint.open, old.folder), name)
            self._models[name] = model
        self._retire(old)
        return model

    async def unload(self, name: str) -> None:
        """Serve a checkpoint no more. What was asked before is answered. Raises ApiError 409 for the last one."""
        async with self._changing:
            model = self.get(name)
            if len(self._models) == 1:
                raise ApiError(409, "The last model stays; load another one first.", code="last_model")
            del self._models[name]
        self._retire(model)

    async def _found(self, find: Callable[..., Checkpoint], *where: str | Path) -> Checkpoint:
        try:
            return await asyncio.to_thread(find, *where)
        except ResonanceError as error:
            raise _unusable(error) from error

    async def _open(self, checkpoint: Checkpoint, name: str) -> ServedModel:
        """Read a checkpoint here, and let every worker hold it."""
        folder = str(checkpoint.folder.resolve())
        try:
            refusal = self._room.too_little_for(name, checkpoint.config, [m.config for m in self._held.values()])
            if refusal is not None:
                raise ApiError(409, refusal, param="checkpoint", code="memory_budget")
            model = await asyncio.to_thread(ServedModel.open, name, folder, self._settings.context_length)
        except ResonanceError as error:
            raise _unusable(error) from error
        self._readings += 1
        model = replace(model, key=f"{name}#{self._readings}")
        await self._hold(model)
        return model

    async def _hold(self, model: ServedModel) -> None:
        """Let every worker load the model; take it back when one cannot."""
        self._held[model.key] = model
        version = self._write()
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                while not all(self._roster.applied(worker, version) for worker in self._ready()):
                    await asyncio.sleep(LOOK_EVERY)
        except BaseException as error:
            self._drop(model)
            if isinstance(error, TimeoutError):
                raise ApiError(503, "The workers did not load it in time.", code="load_failed") from error
            raise
        if any(self._roster.failed(worker, version) for worker in self._ready()):
            self._drop(model)
            raise ApiError(503, "A worker could not load it; the server's log says why.", code="load_failed")

    def _ready(self) -> list[int]:
        ready = [w for w in range(self._table.workers) if self._table.state(w) == WorkerState.READY]
        if not ready:
            raise ApiError(503, "The model is being loaded.", code="not_ready", retry_after=2)
        return ready

    def _retire(self, model: ServedModel) -> None:
        """Let the workers drop a model that is served no more, once nothing is asked of it."""
        task = asyncio.create_task(self._drop_when_idle(model), name=f"retire {model.key}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drop_when_idle(self, model: ServedModel) -> None:
        while self._spec.asks_for(model.key):
            await asyncio.sleep(LOOK_EVERY)
        async with self._changing:
            self._drop(model)

    def _drop(self, model: ServedModel) -> None:
        self._held.pop(model.key, None)
        self._write()

    def _write(self) -> int:
        return self._roster.write({key: model.folder for key, model in self._held.items()})


def _unusable(error: ResonanceError) -> ApiError:
    return ApiError(400, str(error), param="checkpoint", code="checkpoint_unusable")
