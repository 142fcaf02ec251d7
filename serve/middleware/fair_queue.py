"""Lets a few tasks on in each turn of the event loop, in the order in which they came.

When hundreds of requests arrive together, each turn stays short, and what does not pass through here (a look at
/health) waits for one turn and not for all of them.
"""

import asyncio
from collections import deque


class Turnstile:
    """`a_turn` is how many are let on between two looks at the network."""

    def __init__(self, a_turn: int) -> None:
        self._a_turn = self._left = a_turn
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for one's turn."""
        if self._left:
            self._let_on()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _let_on(self) -> None:
        if self._left == self._a_turn:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._left -= 1

    def _next_turn(self) -> None:
        self._left = self._a_turn
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():
                self._let_on()
                turn.set_result(None)
