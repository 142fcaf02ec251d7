"""A generation: one request's way from prepared prompts to a delivered answer, for chats and text completions alike.

reserve a slot -> prepare the prompts -> submit them -> events -> store the answer -> close. How the prompts are
prepared is up to `prompt.py`; how the answer is written down is up to a Format.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from fastapi import Request

from resonance.retrieval.citations import CitationFilter
from resonance.tool_calling import ToolCallParser
from serve.api.auth import Caller
from serve.api.errors import ApiError, quota_exceeded, session_busy, store_unavailable
from serve.api.schemas.responses import Sources, Timing, Usage
from serve.api.service import Service
from serve.generation.choice import Choice
from serve.generation.event_stream import EventStream
from serve.generation.format import Format
from serve.generation.prompt import Prepared
from serve.generation.responses import EventStreamResponse, WholeResponse, while_connected
from serve.generation.shadow import Shadow, Shown
from serve.generation.slots import reserve_slot
from serve.models.served_model import ServedModel
from serve.storage.errors import StoreUnavailable
from serve.storage.quota import QuotaExceeded
from serve.storage.session_locks import SessionBusy, SessionLock
from serve.storage.store import NewMessage
from serve.telemetry.tracing import CURRENT_TRACE, AnswerRecord
from serve.workers.client import RequestHandle
from serve.workers.messages import Embedded, Failure, Finished, Idle, Scored, Token

BUSY = "An answer in this conversation is still under way."


@dataclass(slots=True)
class Generation:
    """A submitted request. `whole` and `stream` close and release it, however the answer ends."""

    id: str
    created: int
    service: Service
    caller: Caller
    model: ServedModel
    handle: RequestHandle
    prepared: Prepared
    choices: list[Choice]
    started_at: float  # of the monotonic clock, in seconds
    session_id: str | None
    session_lock: SessionLock | None
    parent_id: str | None  # the stored message that the answer follows
    session: ExitStack  # held until the answer is stored
    slot: ExitStack  # with the rate limit and the memory; held until the client has the answer
    last_token_at: float = 0.0

    @classmethod
    async def start(
        cls,
        service: Service,
        caller: Caller,
        model: ServedModel,
        prepare: Callable[[], Awaitable[Prepared]],
        *,
        stream: bool,
        prefix: str,
        session_id: str | None = None,
    ) -> "Generation":
        """Reserve a slot, prepare the prompts, store the user's messages, submit. Raises ApiError."""
        started_at = time.monotonic()
        with ExitStack() as session, ExitStack() as slot:
            slot.enter_context(service.rate_limiter.admit(caller.client))
            if session_id is not None:
                with _session_errors():
                    session.enter_context(service.locks.reserved(caller.owner, session_id))
            # Before any await, so that a full server refuses at once.
            handle = reserve_slot(service, caller, model)
            slot.callback(handle.close)
            lock = None
            if session_id is not None:
                with _session_errors():
                    lock = await service.locks.acquire(caller.owner, session_id)
                session.callback(service.locks.release_soon, lock)
            prepared = await prepare()
            slot.enter_context(
                service.streams.reserve(service.streams.stream_bytes if stream else prepared.whole_bytes)
            )
            service.rate_limiter.spend_prompt(caller.client, prepared.prompt_tokens())
            parent_id = None
            if session_id is not None:
                parent_id = await _store_messages(service, caller.owner, session_id, prepared, lock)
            service.client.submit(handle, prepared.inputs)
            chat = prepared.chat
            return cls(
                id=f"{prefix}-{secrets.token_hex(12)}",
                created=int(time.time()),
                service=service,
                caller=caller,
                model=model,
                handle=handle,
                prepared=prepared,
                choices=[
                    Choice(
                        CitationFilter(None) if chat is None or chat.grounding is None else chat.grounding.filter(),
                        "" if chat is None else chat.conversation.prefix,
                        keeps_text=not stream or chat is not None,
                        keeps_tokens=not stream and prepared.logprobs,
                        calls=ToolCallParser() if chat is not None and chat.calls_tools else None,
                    )
                    for prompt in prepared.inputs
                    for _ in range(prompt.n)
                ],
                started_at=started_at,
                session_id=session_id,
                session_lock=lock,
                parent_id=parent_id,
                session=session.pop_all(),
                slot=slot.pop_all(),
            )

    async def whole(self, request: Request, format: Format) -> WholeResponse:
        """Return the finished answer; its slot is held until the client has it."""

        async def collect() -> bytes:
            async with self._stored():
                async for event in self._events():
                    if isinstance(event, Scored):
                        await format.add_scores(event)
                    elif isinstance(event, Embedded):
                        await format.add_embedding(event)
            return await format.body()

        try:
            try:
                body = await while_connected(request, collect())
            finally:
                self._close()
            return WholeResponse(body, self.slot.close, delivery_seconds(self.service))
        except BaseException:
            self.slot.close()
            raise

    def stream(self, format: Format) -> EventStreamResponse:
        """Return the answer as events, which a task writes; its slot is held until a client has them."""

        async def write(stream: EventStream) -> None:
            try:
                format.write_start(stream)
                async with self._stored():  # a client that has read the end of an answer can rely on its being stored
                    async for event in self._events():
                        if isinstance(event, Token):
                            await format.write_token(stream, event)
                            await self.wait_for_readers(stream)
                        elif isinstance(event, Scored):
                            await format.add_scores(event)
                        else:
                            stream.keep_alive()
                await format.write_end(stream)
            finally:
                self._close()

        stream = self.service.streams.start(self.id, self.caller.owner, write, self.slot.close, self.session_id)
        return EventStreamResponse(stream, delivery_seconds(self.service))

    async def wait_for_readers(self, stream: EventStream) -> None:
        """Wait while too much of the stream is unread, unless the request fails; its work pauses meanwhile."""
        if not stream.full:
            return
        waits = {asyncio.ensure_future(stream.wait_for_space()), asyncio.ensure_future(self.handle.failed.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def sources(self) -> Sources | None:
        """Return the search results, and which sentences of the first answer so far each of them supports."""
        chat = self.prepared.chat
        if chat is None or chat.grounding is None:
            return None
        return chat.grounding.sources(self.choices[0].answer_text())

    def usage(self) -> Usage:
        """Return the token counts so far."""
        prompt, generated = self.prepared.prompt_tokens(), self._generated_tokens()
        chat = self.prepared.chat
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=generated,
            total_tokens=prompt + generated,
            messages_kept=None if chat is None else len(chat.fitted.messages),
            messages_dropped=None if chat is None else chat.fitted.dropped,
        )

    async def _events(self) -> AsyncIterator[Token | Scored | Embedded | Idle]:
        """Yield the events of all answers. Raises ApiError when the request fails."""
        handle, metrics = self.handle, self.service.metrics
        async for event in handle.events():
            if isinstance(event, Token):
                if not self.last_token_at and handle.first_at is not None:
                    metrics.first_token.observe(handle.first_at - self.started_at)
                self.last_token_at = time.monotonic()
                yield self.choices[event.index].add(event)
            elif isinstance(event, Failure):
                retry_after = None if event.status == 401 else 1
                raise ApiError(event.status, event.message, code=event.code, retry_after=retry_after)
            elif isinstance(event, Finished):
                metrics.answer_seconds.observe(time.monotonic() - self.started_at)
                return
            else:
                yield event

    @asynccontextmanager
    async def _stored(self) -> AsyncGenerator[None]:
        """Store the answer after the block, also a partial one. Raises ApiError 503 when a finished one cannot be."""
        try:
            yield
        except asyncio.CancelledError:
            with suppress(ApiError):
                await self._store("cancelled")
            raise
        except Exception:
            with suppress(ApiError):
                await self._store("error")
            raise
        await self._store()

    async def _store(self, reason: str | None = None) -> None:
        """Store the answer where it belongs to a conversation; `reason` is the finish reason of a partial one."""
        if reason is not None:
            self.handle.close()  # stops the work that is left
        self.service.rate_limiter.spend(self.caller.client, self._generated_tokens())
        if self.session_id is None:
            return
        choice, sources, timing = self.choices[0], self.sources(), self.timing()
        calls = choice.tool_calls()
        message = NewMessage(
            role="assistant",
            content=choice.answer_text(),
            id=self.id,
            model=self.model.checkpoint,  # an alias names another run later
            finish_reason=reason or choice.finish_reason,
            sources=None if sources is None else sources.model_dump(mode="json"),
            usage=self.usage().model_dump(),
            timing=None if timing is None else timing.model_dump(),
            tool_calls=None if calls is None else [call.model_dump() for call in calls],
        )
        try:
            await asyncio.shield(asyncio.ensure_future(self._append(self.session_id, message)))
        except StoreUnavailable as error:
            raise store_unavailable(error) from error
        if reason is None and self.service.shadow is not None:
            self._offer_to(self.service.shadow, self.session_id)

    def _offer_to(self, shadow: Shadow, session_id: str) -> None:
        """Let the shadow answer the same, where both answers are free text that follows from the messages alone."""
        chat, (prompt, *others) = self.prepared.chat, self.prepared.inputs
        assert chat is not None
        guided = {"json_schema", "regex", "grammar"} & set(prompt.params or {})
        bound = guided or chat.calls_tools or chat.grounding is not None or chat.conversation.prefix
        if self.model is not self.service.models.default() or bound or others or prompt.n > 1 or not prompt.params:
            return
        shadow.offer(
            Shown(
                self.caller.owner,
                self.caller.key,
                session_id,
                self.model,
                chat.conversation.messages,
                {**prompt.params, "logprobs": None},
                self.choices[0].answer_text(),
            )
        )

    async def _append(self, session_id: str, message: NewMessage) -> None:
        """Store the answer and release the conversation's lock in the same transaction."""
        assert self.session_lock is not None
        async with self.service.locks.storing(self.session_lock):
            await self.service.store.append(
                self.caller.owner, session_id, [message], self.parent_id, self.session_lock, answer=True
            )

    def _generated_tokens(self) -> int:
        return sum(choice.token_count for choice in self.choices)

    def timing(self) -> Timing | None:
        """Return how fast the first answer was generated."""
        first_token_at = self.handle.first_at
        if first_token_at is None:
            return None
        more, seconds = self.choices[0].token_count - 1, self.last_token_at - first_token_at
        return Timing(
            first_token_s=round(first_token_at - self.started_at, 4),
            tokens_per_s=round(more / seconds, 2) if more > 0 and seconds > 0 else None,
        )

    def _close(self) -> None:
        """Release the conversation and trace the answer: nothing more is generated."""
        handle = self.handle
        if not handle.ended:
            handle.close()
        self.session.close()
        trace = CURRENT_TRACE.get()
        if trace is not None:
            usage = self.usage()
            trace.record_answer(
                AnswerRecord(
                    id=self.id,
                    model=self.model.name,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    finish_reasons=tuple(choice.finish_reason or "cancelled" for choice in self.choices),
                    sent_at=handle.sent_at,
                    claimed_at=handle.claimed_at,
                    first_at=handle.first_at,
                    ended_at=time.monotonic(),
                    failure=None if handle.failure is None else handle.failure.code,
                )
            )


def replay(service: Service, caller: Caller, last_event_id: str) -> EventStreamResponse:
    """Return the events of a stream after the given one. Raises ApiError 404 when they are not kept any more."""
    stream, number = service.streams.find_event(last_event_id, caller.owner)
    return EventStreamResponse(stream, delivery_seconds(service), after=number)


def delivery_seconds(service: Service) -> float:
    """Return the time limit of a response, from its first byte on."""
    return service.settings.timeout_s + service.settings.limits.write_s


@contextmanager
def _session_errors() -> Generator[None]:
    """Turn a conversation lock's exceptions into API errors."""
    try:
        yield
    except SessionBusy as error:
        raise session_busy(BUSY, param="session_id") from error
    except StoreUnavailable as error:
        raise store_unavailable(error) from error


async def _store_messages(
    service: Service, owner: str, session_id: str, prepared: Prepared, lock: SessionLock | None
) -> str | None:
    """Store the request's new messages; return the id of the message that the answer follows."""
    assert prepared.chat is not None
    conversation = prepared.chat.conversation
    messages, parent_id = conversation.new_messages, conversation.parent_id
    if not messages:
        return parent_id
    try:
        await service.store.append(
            owner, session_id, messages, parent_id, lock, search_sources=conversation.search_sources
        )
    except StoreUnavailable as error:
        raise store_unavailable(error) from error
    except QuotaExceeded as error:
        raise quota_exceeded(error) from error
    return messages[-1].id
