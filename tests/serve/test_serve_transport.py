"""The lines between the workers and the HTTP process: whole messages of any length, from and to many processes."""

import asyncio
import multiprocessing as mp
import os
import signal
import time

import pytest

from serve.workers.transport import DATAGRAM_BYTES, EventChannel, RequestQueue


def say(line: EventChannel, who: int, count: int) -> None:
    for number in range(count):
        line.send((who, number, b"x" * (number % 3 * DATAGRAM_BYTES)), 0)


def say_for_ever(line: EventChannel) -> None:
    while True:
        line.send(("endless", b"x" * 20 * DATAGRAM_BYTES), 0)


def work(jobs: RequestQueue, line: EventChannel, who: int) -> None:
    while (job := jobs.get(2.0)) is not None:
        line.send((who, job), 0)


def take_and_hang(jobs: RequestQueue, line: EventChannel) -> None:
    line.send(jobs.get(20.0), 0)
    time.sleep(60)


async def receive(line: EventChannel, count: int) -> list[tuple[object, ...]]:
    return [await asyncio.wait_for(line.areceive(0), 20) for _ in range(count)]


@pytest.mark.parametrize("size", [0, 1, DATAGRAM_BYTES, 5 * DATAGRAM_BYTES + 1])
def test_a_message_of_any_length_arrives_as_it_was(size: int):
    line = EventChannel()

    async def both() -> object:
        sending = asyncio.create_task(asyncio.to_thread(line.send, b"y" * size, 0))
        (message,) = await receive(line, 1)
        await sending
        return message

    assert asyncio.run(both()) == b"y" * size
    line.close()


def test_many_processes_share_the_line_and_each_ones_messages_stay_in_order():
    line, context = EventChannel(), mp.get_context("spawn")
    senders = [context.Process(target=say, args=(line, who, 50)) for who in range(3)]
    for sender in senders:
        sender.start()
    messages = asyncio.run(receive(line, 150))
    for sender in senders:
        sender.join(10)
    for who in range(3):
        own = [(number, len(text)) for name, number, text in messages if name == who]
        assert own == [(number, number % 3 * DATAGRAM_BYTES) for number in range(50)]


def test_a_sender_that_is_killed_while_it_writes_spoils_nobodys_messages():
    line, context = EventChannel(), mp.get_context("spawn")
    endless = context.Process(target=say_for_ever, args=(line,))
    endless.start()
    asyncio.run(receive(line, 3))
    time.sleep(0.1)  # its messages fill the socket
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


@pytest.mark.parametrize("size", [1, DATAGRAM_BYTES, 40 * DATAGRAM_BYTES])
def test_every_job_is_done_by_exactly_one_worker(size: int):
    jobs, line, context = RequestQueue(), EventChannel(), mp.get_context("spawn")
    workers = [context.Process(target=work, args=(jobs, line, who)) for who in range(2)]
    for worker in workers:
        worker.start()
    handed_in = [bytes([number]) * size for number in range(40)]

    async def hand_in_and_hear() -> list[tuple[object, ...]]:
        for job in handed_in:
            while not jobs.put(job):
                await asyncio.sleep(0.01)
        return await receive(line, len(handed_in))

    done = asyncio.run(hand_in_and_hear())
    for worker in workers:
        worker.join(20)
    assert sorted(job for _, job in done) == handed_in
    assert jobs.get(0.0) is None


def test_a_worker_that_is_killed_takes_no_job_but_its_own():
    jobs, line, context = RequestQueue(), EventChannel(), mp.get_context("spawn")
    worker = context.Process(target=take_and_hang, args=(jobs, line))
    worker.start()
    for job in (b"one", b"two"):
        assert jobs.put(job)
    assert asyncio.run(receive(line, 1)) == [b"one"]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    assert jobs.get(1.0) == b"two"


def test_a_full_line_takes_no_job_and_says_call_when_writable_again():
    jobs, job = RequestQueue(), b"z" * DATAGRAM_BYTES

    async def fill_and_empty() -> tuple[int, bool, int]:
        count = 0
        while jobs.put(job):
            count += 1
        room = asyncio.Event()
        jobs.call_when_writable(room.set)
        await asyncio.sleep(0.05)
        early = room.is_set()
        emptied = 0
        while jobs.get(0.0) is not None:
            emptied += 1
        await asyncio.wait_for(room.wait(), 5)
        assert jobs.put(job)
        return count, early, emptied

    count, early, emptied = asyncio.run(fill_and_empty())
    assert count > 1
    assert emptied == count
    assert not early
    jobs.shutdown()
