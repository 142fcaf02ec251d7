"""One turn of a chat: a job that is under way, and the answer that is kept.

It knows conversations and places; how a prompt is made and an answer written down is others' business.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace

from resonance.chat_template import Fitted
from resonance.retrieval.citations import CitationFilter
from serve.api.auth import Caller
from serve.api.errors import ApiError, quota_exceeded, session_busy, store_unavailable
from serve.api.schemas.requests import ChatRequest
from serve.api.schemas.responses import Sources, Timing, Usage
from serve.api.service import Service
from serve.generation.event_logs import whole_answer_bytes
from serve.generation.grounding import Grounding, Unsearched
from serve.generation.prompt import check, make_prompt, read_conversation
from serve.generation.sampling import engine_params
from serve.models.served_model import ServedModel
from serve.storage.errors import StoreUnavailable
from serve.storage.quota import QuotaExceeded
from serve.storage.session_locks import SessionBusy, SessionLock
from serve.storage.store import NewMessage
from serve.workers.client import RequestHandle
from serve.workers.messages import Idle, PromptInput, Token

LOGPROB_BYTES = 1000  # for each log-probability of an answer that is collected as a whole: the object, and its text


@dataclass(slots=True)
class Said:
    """One answer so far; `filter` holds its citations to the sources that there are, `beginning` was given."""

    filter: CitationFilter
    beginning: str = ""
    keeps_tokens: bool = False  # for an answer that shows them when it is whole
    text: list[str] = field(default_factory=list[str])
    tokens: list[Token] = field(default_factory=list[Token])
    made: int = 0  # tokens
    finish_reason: str | None = None

    def add(self, token: Token) -> Token:
        """Take the next token; return it with the text that can be shown now."""
        text = self.filter.feed(token.text)
        if token.finish_reason:
            text += self.filter.flush()
        token = token if text == token.text else replace(token, text=text)
        self.text.append(text)
        self.finish_reason = token.finish_reason
        if token.token_id is not None:
            self.made += 1
            if self.keeps_tokens:
                self.tokens.append(token)
        return token

    def written(self) -> str:
        """What the model has written so far."""
        return "".join(self.text)

    def whole(self) -> str:
        """The text so far, from its beginning on."""
        return self.beginning + self.written()


@dataclass(slots=True)
class Turn:
    """A chat request under way. `close()` and then `release()` must be called, whatever happens."""

    id: str
    created: int
    service: Service
    caller: Caller
    body: ChatRequest
    model: ServedModel
    answer: RequestHandle
    fitted: Fitted
    grounding: Grounding | None
    unsearched: Unsearched | None
    parent_id: str | None  # of the answer: the last stored message
    lock: SessionLock | None
    said: list[Said]
    began: float
    stack: ExitStack
    place: ExitStack  # and the quota and the memory, until the client has the answer
    last_token: float = 0.0  # when it came, as `began`

    async def events(self) -> AsyncIterator[Token | Idle]:
        """The tokens of all answers, and signs of life in between. Raises ApiError when the work fails."""
        async for event in self.service.events(self.answer, self.began):
            if isinstance(event, Token):
                self.last_token = time.monotonic()
                yield self.said[event.index].add(event)
            elif isinstance(event, Idle):
                yield event

    def sources(self) -> Sources | None:
        """What was found, and which sentences of the first answer, as far as it goes, each source supports."""
        return None if self.grounding is None else self.grounding.sources(self.said[0].whole())

    def usage(self) -> Usage:
        """Counts so far."""
        prompt, made = len(self.fitted.prompt_ids), sum(said.made for said in self.said)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=made,
            total_tokens=prompt + made,
            messages_kept=len(self.fitted.messages),
            messages_dropped=self.fitted.dropped,
        )

    def timing(self) -> Timing | None:
        """How fast the first answer was written so far."""
        first_token = self.answer.first_at
        if first_token is None:
            return None
        more, seconds = self.said[0].made - 1, self.last_token - first_token
        return Timing(
            first_token_s=round(first_token - self.began, 4),
            tokens_per_s=round(more / seconds, 2) if more > 0 and seconds > 0 else None,
        )

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Store the answer after the block, as far as it goes. Raises ApiError 503 when a whole one cannot be."""
        try:
            yield
        except asyncio.CancelledError:
            with suppress(ApiError):
                await self._keep("cancelled")
            raise
        except Exception:
            with suppress(ApiError):
                await self._keep("error")
            raise
        await self._keep()

    async def _keep(self, reason: str | None = None) -> None:
        """Store the answer where there is a conversation; `reason` says why the model itself has not ended it."""
        if reason is not None:
            self.answer.close()  # nothing more is to be computed
        self.service.rate_limiter.spend(self.caller.client, sum(said.made for said in self.said))
        if self.body.session_id is None:
            return
        said, sources, timing = self.said[0], self.sources(), self.timing()
        message = NewMessage(
            role="assistant",
            content=said.whole(),
            id=self.id,
            model=self.model.name,
            finish_reason=reason or said.finish_reason,
            sources=None if sources is None else sources.model_dump(mode="json"),
            usage=self.usage().model_dump(),
            timing=None if timing is None else timing.model_dump(),
        )
        try:
            await asyncio.shield(asyncio.ensure_future(self._store(message)))
        except StoreUnavailable as error:
            raise store_unavailable(error) from error

    async def _store(self, message: NewMessage) -> None:
        """Store the answer, and give the conversation back in the same transaction."""
        assert self.body.session_id is not None and self.lock is not None
        owner, locks = self.caller.owner, self.service.locks
        async with locks.storing(self.lock):
            await self.service.store.append(
                owner, self.body.session_id, [message], self.parent_id, self.lock, answer=True
            )

    def close(self) -> None:
        """Give back the session: nothing more is made for this request."""
        if not self.answer.ended:
            self.answer.close()
        self.stack.close()
        self.service.trace_answer(self.answer, self.id, self.model, self.usage(), [s.finish_reason for s in self.said])

    def release(self) -> None:
        """Give back the place, the quota and the memory: the client has the answer, or has been given up."""
        self.place.close()


async def begin(service: Service, caller: Caller, body: ChatRequest, *, streams: bool) -> Turn:
    """Put a request's job under way; the user's words are stored before. Raises ApiError."""
    began = time.monotonic()
    model = service.model(body.model)
    check(service, body)
    n = body.n or 1
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    with ExitStack() as stack, ExitStack() as place:
        place.enter_context(service.rate_limiter.admit(caller.client))
        if body.session_id is not None:
            stack.enter_context(_alone(service, caller.owner, body.session_id))
        # Before anything is waited for, so that a full server is seen as full at once.
        answer = service.reserve(model, caller)
        place.callback(answer.close)
        lock = None
        if body.session_id is not None:
            lock = await _lock(service, caller.owner, body.session_id)
            stack.callback(service.locks.release_soon, lock)
        conversation = await read_conversation(service, caller, body)
        prompt = await make_prompt(service, model, body, conversation)
        params = engine_params(
            body,
            service.settings.sampling,
            model,
            max_new_tokens=prompt.max_new_tokens,
            logprobs=logprobs,
        )
        whole = whole_answer_bytes(n * prompt.max_new_tokens, logprobs, LOGPROB_BYTES)
        place.enter_context(service.logs.reserved(service.settings.limits.answer_bytes if streams else whole))
        service.rate_limiter.spend_prompt(caller.client, len(prompt.fitted.prompt_ids))
        parent_id = None
        if body.session_id is not None:
            parent_id = await _store(
                service, caller.owner, body.session_id, conversation.fresh, conversation.parent_id, lock
            )
        service.client.submit(answer, [PromptInput(prompt.fitted.prompt_ids, params, n=n)])
        grounding = prompt.grounding
        return Turn(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            service=service,
            caller=caller,
            body=body,
            model=model,
            answer=answer,
            fitted=prompt.fitted,
            grounding=grounding,
            unsearched=prompt.unsearched,
            parent_id=parent_id,
            lock=lock,
            said=[
                Said(
                    CitationFilter(None) if grounding is None else grounding.filter(),
                    conversation.beginning,
                    keeps_tokens=not streams and logprobs is not None,
                )
                for _ in range(n)
            ],
            began=began,
            stack=stack.pop_all(),
            place=place.pop_all(),
        )


BUSY = "An answer in this conversation is still under way."


@contextmanager
def _alone(service: Service, owner: str, session_id: str) -> Generator[None]:
    """Hold a conversation within this process; at once, where the database would be waited for."""
    session = (owner, session_id)
    if session in service.busy_sessions:
        raise session_busy(BUSY, param="session_id")
    service.busy_sessions.add(session)
    try:
        yield
    finally:
        service.busy_sessions.discard(session)


async def _lock(service: Service, owner: str, session_id: str) -> SessionLock:
    """Hold a conversation among all servers on the database."""
    try:
        return await service.locks.acquire(owner, session_id)
    except SessionBusy as error:
        raise session_busy(BUSY, param="session_id") from error
    except StoreUnavailable as error:
        raise store_unavailable(error) from error


async def _store(
    service: Service,
    owner: str,
    session_id: str,
    messages: Sequence[NewMessage],
    parent_id: str | None,
    lock: SessionLock | None,
) -> str | None:
    """Store what is new; return the id of the message that the answer follows."""
    if not messages:
        return parent_id
    try:
        await service.store.append(owner, session_id, messages, parent_id, lock)
    except StoreUnavailable as error:
        raise store_unavailable(error) from error
    except QuotaExceeded as error:
        raise quota_exceeded(error) from error
    return messages[-1].id
