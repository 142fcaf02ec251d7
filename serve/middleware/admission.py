"""Who gets through to the app, and when: key, turn and whole body first; whatever fails is answered here."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import ApiError, mistake, response, server_full
from serve.middleware.body_budget import Admission
from serve.middleware.fair_queue import Turnstile
from serve.telemetry.metrics import Metrics

# A full server says so before it reads a body: in a flood that is most of the work, and others wait for it.
ANSWERING = frozenset(("/v1/chat/completions", "/v1/chat/stream", "/v1/completions"))
A_TURN = 8  # requests that are begun between two looks at the network


class Gate:
    """The innermost layer around the app: what it answers passes through the others as the app's answers do."""

    def __init__(self, app: ASGIApp, metrics: Metrics, admission: Admission, full: Callable[[], bool]) -> None:
        self.app, self.metrics, self.admission, self.full = app, metrics, admission, full
        self.turnstile = Turnstile(A_TURN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._enter(scope, receive, answer)
        except ApiError as error:
            await response(error)(scope, receive, answer)
        except Exception as error:
            said = mistake(scope["request_id"], error)
            if not started:
                await response(said)(scope, receive, answer)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self.admission.check_key(scope, headers)
        if scope["path"] != "/health":
            await self.turnstile.enter()
        if scope["path"] in ANSWERING and self.full() and "last-event-id" not in headers:
            self.metrics.rejected.labels("full").inc()
            raise server_full()
        async with self.admission.body(headers, receive) as whole:
            await self.app(scope, whole, send)
