"""The line from the workers to the HTTP process: whole messages, in order, of any length, from many senders."""

import asyncio
import multiprocessing as mp
import os
import signal
import time

import pytest

from serve.inference.line import PART_BYTES, Line


def say(line: Line, who: int, count: int) -> None:
    for number in range(count):
        line.send((who, number, b"x" * (number % 3 * PART_BYTES)), 0)


def say_for_ever(line: Line) -> None:
    while True:
        line.send(("endless", b"x" * 20 * PART_BYTES), 0)


async def receive(line: Line, count: int) -> list[tuple[object, ...]]:
    return [await asyncio.wait_for(line.areceive(0), 20) for _ in range(count)]


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 5 * PART_BYTES + 1])
def test_a_message_of_any_length_arrives_as_it_was(size: int):
    line = Line()

    async def both() -> object:
        sending = asyncio.create_task(asyncio.to_thread(line.send, b"y" * size, 0))
        (message,) = await receive(line, 1)
        await sending
        return message

    assert asyncio.run(both()) == b"y" * size
    line.close()


def test_many_processes_share_the_line_and_each_ones_messages_stay_in_order():
    line, context = Line(), mp.get_context("spawn")
    senders = [context.Process(target=say, args=(line, who, 50)) for who in range(3)]
    for sender in senders:
        sender.start()
    messages = asyncio.run(receive(line, 150))
    for sender in senders:
        sender.join(10)
    for who in range(3):
        own = [(number, len(text)) for name, number, text in messages if name == who]
        assert own == [(number, number % 3 * PART_BYTES) for number in range(50)]


def test_a_sender_that_is_killed_while_it_writes_spoils_nobodys_messages():
    line, context = Line(), mp.get_context("spawn")
    endless = context.Process(target=say_for_ever, args=(line,))
    endless.start()
    asyncio.run(receive(line, 3))
    time.sleep(0.1)  # its parts fill the socket
    assert endless.pid is not None
    os.kill(endless.pid, signal.SIGKILL)
    endless.join(10)
    after = context.Process(target=say, args=(line, 1, 4))
    after.start()

    async def four() -> list[tuple[object, ...]]:
        own: list[tuple[object, ...]] = []
        while len(own) < 4:
            own += [message for message in await receive(line, 1) if message[0] == 1]
        return own

    assert [number for _, number, _ in asyncio.run(four())] == [0, 1, 2, 3]
    after.join(10)
