"""How an answer reaches its client: whole, while the client is there, or in events that can be taken up again.

It knows how answers begin and end, and nothing of what they say.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Protocol, TypeVar

from fastapi import Header, Request

from serve.api.auth import Caller
from serve.api.errors import CLIENT_GONE, ApiError, error_body, internal_error
from serve.api.service import Service
from serve.generation.delivery import WholeAnswer
from serve.generation.event_stream import EventLog, EventStream
from serve.workers.client import RequestHandle

LastEventId = Annotated[str | None, Header(description="Replay a stream's events after this one instead.")]
STREAMED = {
    "content": {"text/event-stream": {}},
    "description": "The answer, or its events.",
}
LONGEST_NUMBER = 12  # digits of an event's
T = TypeVar("T")


class Work(Protocol):
    """A request under way: `close` when nothing more is made for it, `release` when its client has the answer."""

    def close(self) -> None: ...

    def release(self) -> None: ...


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Do the work as long as the client is there; cancel it and raise ApiError 499 when it goes."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, CLIENT_GONE, code="client_gone")
        return working.result()
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def whole(request: Request, service: Service, work: Work, collected: Awaitable[bytes]) -> WholeAnswer:
    """The answer as a whole, once its JSON is there; its place is held until the client has it."""
    try:
        try:
            answer = await while_connected(request, collected)
        finally:
            work.close()
        return WholeAnswer(answer, work.release, delivery_seconds(service))
    except BaseException:
        work.release()
        raise


def delivery_seconds(service: Service) -> float:
    """How long a response may take in all, from its first byte on."""
    return service.settings.timeout_s + service.settings.limits.write_s


async def reader_has_caught_up(log: EventLog, answer: RequestHandle) -> None:
    """Wait while too much of a log is unread, for as long as its answer has not failed; it pauses meanwhile."""
    if not log.full:
        return
    waits = {asyncio.ensure_future(log.room()), asyncio.ensure_future(answer.failed.wait())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def stream(
    service: Service,
    caller: Caller,
    name: str,
    write: Callable[[EventLog], Awaitable[None]],
    delivered: Callable[[], None],
) -> EventStream:
    """Let `write` fill a log of that name in the background; return what reads it. At its end `delivered` is called."""

    async def write_to_the_end(log: EventLog) -> None:
        async with _ended(service, log):
            await write(log)

    log = EventLog(name, caller.owner, service.settings.resume_s, service.settings.limits.answer_bytes, delivered)
    service.logs.add(log)
    log.write_with(write_to_the_end)
    return EventStream(log, seconds=delivery_seconds(service))


def replay(service: Service, caller: Caller, last_event_id: str) -> EventStream:
    """What a client has missed of a stream since an event. Raises ApiError 404 when it is not kept any more."""
    name, _, number = last_event_id.rpartition(":")
    log = service.logs.find(name, caller.owner)
    known = log is not None and number.isascii() and number.isdigit() and len(number) <= LONGEST_NUMBER
    if log is None or not known or not log.keeps_after(int(number)):
        raise ApiError(
            404, "There is no stream with this event, or no longer.", param="Last-Event-ID", code="stream_gone"
        )
    return EventStream(log, after=int(number), seconds=delivery_seconds(service))


@asynccontextmanager
async def _ended(service: Service, log: EventLog) -> AsyncGenerator[None]:
    """However the writing ends, readers are told: what went wrong as an event, and then that it was the last."""
    try:
        yield
    except asyncio.CancelledError:
        log.add(json.dumps(error_body(499, "The answer was stopped.", code="cancelled")), event="error")
        raise
    except ApiError as error:
        log.add(json.dumps(error.body()), event="error")
    except Exception as error:
        log.add(json.dumps(internal_error(log.name, error).body()), event="error")
    finally:
        log.add("[DONE]")
        service.logs.forget_later(log)
