"""The shadow: a candidate that answers a share of the requests as well, unseen, for its owners' blind votes.

An answer of the shadow begins when nothing else is being computed, pauses before the next step of its worker while
anything else is, and gives up its slot to a request that finds none. It is dropped where there is no time for it.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from resonance.chat_template import Message
from serve.api.errors import ApiError
from serve.api.schemas.feedback import CheckpointNote, Settings, VotedAnswer
from serve.models.served_model import ServedModel
from serve.storage.errors import StoreUnavailable
from serve.storage.quota import QuotaExceeded
from serve.storage.shadow_pairs import add_pair
from serve.storage.store import Store
from serve.storage.tables import ShadowPairRow
from serve.telemetry.metrics import Metrics
from serve.workers.client import NoFreeSlot, RequestHandle, WorkerClient
from serve.workers.messages import Failure, Finished, PromptInput, Token

log = logging.getLogger("resonance.serve")
MAX_WAITING = 16  # answered requests that the shadow has still to answer
MAX_CHARS = 32_768  # of a conversation with its answer; longer ones nobody compares
PATIENCE_S = 60.0  # after the served answer's end, in which the shadow's must be complete
POLL_S = 0.02  # between two looks at what else is being computed

Outcome: TypeAlias = Literal["kept", "same", "load", "unsuitable", "no_consent", "failed"]


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer that its reader has seen, and what it was made from."""

    owner: str
    key: bytes  # the hash of the API key
    conversation_id: str
    model: ServedModel
    messages: Sequence[Message]
    params: Mapping[str, Any]  # of the engine's SamplingParams
    text: str


class Shadow:
    """Answers a share of requests with a candidate; `asks` whether owners' consent is needed for keeping a pair."""

    def __init__(
        self, model: ServedModel, share: float, client: WorkerClient, store: Store, metrics: Metrics, *, asks: bool
    ) -> None:
        self.model = model
        self._share, self._client, self._store, self._metrics, self._asks = share, client, store, metrics, asks
        self._waiting: asyncio.Queue[tuple[float, Shown]] = asyncio.Queue(MAX_WAITING)
        self._handle: RequestHandle | None = None
        self._random = random.Random()

    @property
    def slots_in_use(self) -> int:
        """How many request slots the shadow holds: they count as free."""
        return int(self._handle is not None)

    def offer(self, shown: Shown) -> None:
        """Answer this as well, if it is in the share and there is room; never waits."""
        if self._random.random() >= self._share:
            return
        if shown.model.checkpoint == self.model.checkpoint or not shown.text.strip() or _chars(shown) > MAX_CHARS:
            self._count("unsuitable")
            return
        try:
            self._waiting.put_nowait((time.monotonic() + PATIENCE_S, shown))
        except asyncio.QueueFull:
            self._count("load")

    def pause(self) -> None:
        """Compute nothing more until other requests are done; called when one arrives."""
        if self._handle is not None:
            self._client.state.pause(self._handle.slot, paused=True)

    def give_way(self) -> bool:
        """Drop the answer under way, so that its slot is free; False where there is none."""
        if self._handle is None:
            return False
        self._handle.close()
        self._handle = None
        return True

    async def run(self) -> None:
        """Answer what was offered, one after the other. Runs until it is cancelled."""
        while True:
            until, shown = await self._waiting.get()
            try:
                self._count(await self._answer_and_keep(shown, until))
            except (ApiError, StoreUnavailable, QuotaExceeded) as error:
                log.warning("an answer of the shadow %s is dropped: %s", self.model.checkpoint, error)
                self._count("failed")
            except Exception:
                log.exception("an answer of the shadow %s is dropped", self.model.checkpoint)
                self._count("failed")

    async def _answer_and_keep(self, shown: Shown, until: float) -> Outcome:
        text = await self._answer(shown, until)
        if text is None:
            return "load"
        if text.split() == shown.text.split():
            return "same"
        sides = [voted_answer(shown.model, shown.params, shown.text), voted_answer(self.model, shown.params, text)]
        self._random.shuffle(sides)
        pair = ShadowPairRow(
            owner=shown.owner,
            id=f"pair-{secrets.token_hex(12)}",
            conversation_id=shown.conversation_id,
            created_at=datetime.now(UTC),
            prompt=[{"role": message.role, "content": message.content} for message in shown.messages],
            a=sides[0],
            b=sides[1],
        )
        return "kept" if await add_pair(self._store, pair, asks=self._asks) else "no_consent"

    async def _answer(self, shown: Shown, until: float) -> str | None:
        """The shadow's answer; None where there was no time for it. Raises ApiError."""
        while self._others_compute() or not self._client.state.ready_workers():
            if time.monotonic() > until:
                return None
            await asyncio.sleep(POLL_S)
        params = dict(shown.params)
        prompt_ids = self.model.fit(shown.messages, params["max_new_tokens"]).prompt_ids
        try:
            handle = self._client.reserve(self.model.key, max(until - time.monotonic(), 1.0))
        except NoFreeSlot:
            return None
        handle.key, self._handle = shown.key, handle
        reading = asyncio.ensure_future(_read(handle))
        try:
            self._client.submit(handle, [PromptInput(prompt_ids, params)])
            while not reading.done() and self._handle is handle and time.monotonic() <= until:
                self._client.state.pause(handle.slot, paused=self._others_compute())
                await asyncio.wait([reading], timeout=POLL_S)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            handle.close()
            if self._handle is handle:
                self._handle = None

    def _others_compute(self) -> bool:
        return any(not other.ended and other is not self._handle for other in self._client.requests.values())

    def _count(self, outcome: Outcome) -> None:
        self._metrics.shadow_answers.labels(outcome).inc()


async def _read(handle: RequestHandle) -> str | None:
    """The text of an answer; None where its time was over. Raises ApiError where it failed."""
    parts: list[str] = []
    async for event in handle.events():
        if isinstance(event, Token):
            parts.append(event.text)
        elif isinstance(event, Failure):
            if event.code == "timeout":
                return None
            raise ApiError(event.status, event.message, code=event.code)
        elif isinstance(event, Finished):
            break
    return "".join(parts)


def voted_answer(model: ServedModel, params: Mapping[str, Any], text: str) -> dict[str, Any]:
    """One side of a pair, as it is stored: an answer, and the weights that gave it."""
    metadata = model.metadata
    note = CheckpointNote(created_at=metadata.created_at, steps=metadata.steps, base=metadata.base, data=metadata.data)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
    settings = Settings(max_tokens=params["max_new_tokens"], **{name: params[name] for name in names})
    answer = VotedAnswer(model=model.checkpoint, checkpoint=note, settings=settings, content=text)
    return {**answer.model_dump(mode="json"), "crc32": model.crc32}  # a name may have other weights tomorrow


def _chars(shown: Shown) -> int:
    return len(shown.text) + sum(len(message.content) for message in shown.messages)
