"""The registry of served checkpoints: load, reload and unload them while the server runs, and follow their aliases.

The HTTP process knows a checkpoint's tokenizer and template, the workers hold its weights. The registry serves it once
both are ready.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from resonance.aliases import Alias, read_aliases
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from serve.api.errors import ApiError
from serve.models.memory_budget import MemoryBudget
from serve.models.served_model import ServedModel
from serve.settings import Settings
from serve.workers.client import WorkerClient
from serve.workers.shared_state import CheckpointList

log = logging.getLogger("resonance.serve")
LOAD_SECONDS = 600.0  # that workers have to load a checkpoint
FOLLOW_SECONDS = 1.0  # between two looks at the aliases
POLL_SECONDS = 0.05  # between two checks of the workers' progress


class ModelRegistry:
    """The served models by name; the first is the default model."""

    def __init__(
        self,
        settings: Settings,
        models: Mapping[str, ServedModel],
        checkpoints: CheckpointList,
        client: WorkerClient,
        shadow: ServedModel | None = None,
    ) -> None:
        self._settings, self._checkpoints, self._client = settings, checkpoints, client
        self._models = dict(models)
        # By the workers; also for unfinished requests, and the shadow, which nobody can ask for.
        self._loaded = {model.key: model for model in (*models.values(), *([] if shadow is None else [shadow]))}
        self._budget = MemoryBudget(settings.engine, settings.memory_gb)
        self._loads = 0
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._moves = {alias.name: alias.current for alias in self._aliases() if alias.name in self._models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def default(self) -> ServedModel:
        """Return the model that answers requests without a model's name."""
        return next(iter(self))

    def get(self, name: str) -> ServedModel:
        """Return the model with this name, or of this checkpoint, which an alias names. Raises ApiError 404."""
        if name not in self._models:
            promoted = next((model for model in self if model.checkpoint == name), None)
            if promoted is not None:
                return promoted
            raise ApiError(
                404,
                f"There is no model {name[:80]!r} here; there are: {', '.join(self._models)}.",
                param="model",
                code="model_not_found",
            )
        return self._models[name]

    async def load(self, name: str) -> ServedModel:
        """Serve one more run or base model. Raises ApiError when it cannot be read or does not fit into memory."""
        async with self._changing:
            checkpoint = await self._find(Checkpoint.find_named, name, self._settings.root)
            if checkpoint.name in self._models:
                raise ApiError(409, "This checkpoint is served already.", param="checkpoint", code="already_loaded")
            model = await self._open(checkpoint, checkpoint.name)
            self._models[model.name] = model
            return model

    async def reload(self, name: str) -> ServedModel:
        """Load a served checkpoint's files again. Unfinished requests keep the old weights. Raises ApiError."""
        async with self._changing:
            old = self.get(name)
            model = await self._open(await self._find(Checkpoint.open, old.folder), old.name)
            self._models[old.name] = model
        self._retire(old)
        return model

    async def unload(self, name: str) -> None:
        """Stop serving a checkpoint; unfinished requests finish. Raises ApiError 409 for the last one."""
        async with self._changing:
            model = self.get(name)
            if len(self._models) == 1:
                raise ApiError(409, "The last model stays; load another one first.", code="last_model")
            del self._models[model.name]
        self._retire(model)

    async def follow_aliases(self) -> None:
        """Serve what an alias names since it was moved: new requests go to it. Runs until it is cancelled.

        What cannot be loaded is logged once, and the alias's former checkpoint stays.
        """
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                aliases = await asyncio.to_thread(self._aliases)
            except ResonanceError as error:
                log.warning("the aliases cannot be followed: %s", error)
                continue
            for alias in aliases:
                if alias.name not in self._moves or self._moves[alias.name] == alias.current:
                    continue
                self._moves[alias.name] = alias.current
                try:
                    await self._follow(alias)
                except ApiError as error:
                    log.error("%s is %s now, which cannot be served: %s", alias.name, alias.current.run, error)

    async def _follow(self, alias: Alias) -> None:
        async with self._changing:
            if alias.name not in self._models:  # it was unloaded
                return
            old = self._models[alias.name]
            model = await self._open(await self._find(Checkpoint.find, alias.name, self._settings.root), alias.name)
            self._models[alias.name] = model
        log.info("%s is %s now, and was %s", alias.name, model.checkpoint, old.checkpoint)
        self._retire(old)

    def _aliases(self) -> list[Alias]:
        return list(read_aliases(self._settings.root).values())

    async def _find(self, find: Callable[..., Checkpoint], *where: str | Path) -> Checkpoint:
        try:
            return await asyncio.to_thread(find, *where)
        except ResonanceError as error:
            raise _unusable(error) from error

    async def _open(self, checkpoint: Checkpoint, name: str) -> ServedModel:
        """Read a checkpoint here, and load it in every worker."""
        folder = str(checkpoint.folder.resolve())
        try:
            refusal = self._budget.refusal(name, checkpoint.config, [m.config for m in self._loaded.values()])
            if refusal is not None:
                raise ApiError(409, refusal, param="checkpoint", code="memory_budget")
            model = await asyncio.to_thread(ServedModel.open, name, folder, self._settings.context_length)
        except ResonanceError as error:
            raise _unusable(error) from error
        self._loads += 1
        model = replace(model, key=f"{name}#{self._loads}")
        await self._load_in_workers(model)
        return model

    async def _load_in_workers(self, model: ServedModel) -> None:
        """Load the model in every worker; undo it when one of them cannot."""
        self._loaded[model.key] = model
        version = self._write_list()
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                while not all(self._checkpoints.has_applied(worker, version) for worker in self._ready_workers()):
                    await asyncio.sleep(POLL_SECONDS)
        except BaseException as error:
            self._drop(model)
            if isinstance(error, TimeoutError):
                raise ApiError(503, "The workers did not load it in time.", code="load_failed") from error
            raise
        if any(self._checkpoints.has_failed(worker, version) for worker in self._ready_workers()):
            self._drop(model)
            raise ApiError(503, "A worker could not load it; the server's log says why.", code="load_failed")

    def _ready_workers(self) -> list[int]:
        ready = self._client.state.ready_workers()
        if not ready:
            raise ApiError(503, "The model is being loaded.", code="not_ready", retry_after=2)
        return ready

    def _retire(self, model: ServedModel) -> None:
        """Let the workers drop a model that is no longer served, once its last request has finished."""
        task = asyncio.create_task(self._drop_when_idle(model), name=f"retire {model.key}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drop_when_idle(self, model: ServedModel) -> None:
        while self._client.uses_model(model.key):
            await asyncio.sleep(POLL_SECONDS)
        async with self._changing:
            self._drop(model)

    def _drop(self, model: ServedModel) -> None:
        self._loaded.pop(model.key, None)
        self._write_list()

    def _write_list(self) -> int:
        return self._checkpoints.write({key: model.folder for key, model in self._loaded.items()})


def _unusable(error: ResonanceError) -> ApiError:
    return ApiError(400, str(error), param="checkpoint", code="checkpoint_unusable")
