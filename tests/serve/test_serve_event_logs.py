"""Event logs take so many bytes, each and together, whoever reads them how slowly."""

import asyncio
import random

import pytest

from serve.api.errors import ApiError
from serve.generation.event_stream import EventStream, EventStreams
from serve.middleware.uvicorn_protocol import ConnectionLimiter

MOST = 20_000
EVENTS = 400
DATA = "x" * 100


def numbers(data: bytes) -> list[int]:
    return [int(line.rpartition(b":")[2]) for line in data.splitlines() if line.startswith(b"id: ")]


async def fill(log: EventStream) -> None:
    for _ in range(EVENTS):
        log.add(DATA)
        await log.wait_for_space()


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_reader_gets_every_event_of_a_log_that_never_holds_more_than_it_may(seed):
    async def main() -> None:
        chance = random.Random(seed)
        log = EventStream("a", "", 0, MOST)
        log.write_with(fill)
        received: list[bytes] = []

        async def send(data: bytes) -> None:
            received.append(data)
            assert log.nbytes <= MOST
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)

        await asyncio.wait_for(log.read(send), 20)
        assert numbers(b"".join(received)) == list(range(1, EVENTS + 1))
        assert log.nbytes <= MOST

    asyncio.run(main())


def test_without_a_reader_the_writer_waits_and_what_a_reader_had_is_kept_for_one_that_comes_back():
    async def main() -> None:
        log = EventStream("a", "", 0, MOST)
        log.write_with(fill)
        await asyncio.sleep(0.05)
        assert not log.done
        assert MOST // 2 <= log.nbytes < MOST * 0.6
        seen: list[int] = []

        async def lose(data: bytes) -> None:
            seen.extend(numbers(data))
            if len(seen) > EVENTS // 2:
                raise ConnectionError

        with pytest.raises(ConnectionError):
            await log.read(lose)
        assert not log.can_replay(0)
        assert log.can_replay(log.last_dropped)
        back = seen[-30]  # the client did not get all that was sent to it
        assert log.can_replay(back)
        again: list[int] = []

        async def collect(data: bytes) -> None:
            again.extend(numbers(data))

        await asyncio.wait_for(log.read(collect, back), 5)
        assert again == list(range(back + 1, EVENTS + 1))

    asyncio.run(main())


def test_a_place_is_free_when_the_last_piece_is_sent_or_nobody_is_waited_for():
    async def main() -> None:
        free: list[str] = []

        async def collect(_: bytes) -> None:
            await asyncio.sleep(0)

        read = EventStream("read", "", 0, MOST, lambda: free.append("read"))
        read.write_with(fill)
        read.connect()
        await read.read(collect)
        assert free == ["read"]
        read.disconnect()
        left = EventStream("left", "", 0.05, MOST, lambda: free.append("left"))
        left.write_with(fill)
        left.connect()
        await asyncio.sleep(0)
        left.disconnect()
        await asyncio.sleep(0.02)
        assert free == ["read"]  # its reader may come back
        await asyncio.sleep(0.1)
        assert free == ["read", "left"]
        assert left.done

    asyncio.run(main())


def test_logs_that_are_kept_make_way_for_answers_and_these_are_refused_when_nothing_is_left():
    logs = EventStreams(10_000)
    old = [EventStream(f"old-{i}", "", 0) for i in range(4)]
    for log in old:
        for _ in range(10):
            log.add(DATA)
        log.done = log.settled = True
        logs.add(log)
    assert sum(log.nbytes for log in old) > 8_000
    with logs.reserve(5_000):
        assert logs.find("old-0", "") is None  # the oldest
        assert old[0].nbytes == 0
        assert logs.find("old-3", "") is old[3]
        with pytest.raises(ApiError) as full, logs.reserve(6_000):
            pass
        assert (full.value.status, full.value.code) == (429, "server_full")
    with logs.reserve(6_000):
        pass
    with pytest.raises(ApiError) as never, logs.reserve(10_001):
        pass
    assert (never.value.status, never.value.code) == (400, "answer_too_large")


def test_connections_are_counted_in_all_and_by_address():
    connections = ConnectionLimiter(3, 2)
    assert [connections.add(address) for address in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    connections.remove("a")
    assert connections.add("c")
    alone = ConnectionLimiter(3, None)
    assert [alone.add("a") for _ in range(4)] == [True, True, True, False]
