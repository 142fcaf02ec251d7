"""The log behind a stream, by itself: nothing is lost or doubled, whenever readers come and go."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from serve.generation.event_stream import EventStream, EventStreams


def numbers(data: bytes) -> list[int]:
    return [int(line.rpartition(b":")[2]) for line in data.splitlines() if line.startswith(b"id: ")]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["event", "comment", "pause"]), max_size=30), st.integers(0, 30))
def test_a_reader_gets_every_event_after_its_number_exactly_once(steps, after):
    async def main() -> None:
        async def write(log: EventStream) -> None:
            for step in steps:
                if step == "event":
                    log.add("{}")
                elif step == "comment":
                    log.keep_alive()
                else:
                    await asyncio.sleep(0)

        log = EventStream("a", "", 0)
        log.write_with(write)
        received: list[bytes] = []

        async def send(data: bytes) -> None:
            received.append(data)
            await asyncio.sleep(0)

        await asyncio.wait_for(log.read(send, after), 5)
        count = steps.count("event")
        if after == 0:
            assert numbers(b"".join(received)) == list(range(1, count + 1))
        late: list[bytes] = []

        async def collect(data: bytes) -> None:
            late.append(data)

        await asyncio.wait_for(log.read(collect, after), 5)
        assert numbers(b"".join(late)) == list(range(after + 1, count + 1))

    asyncio.run(main())


def test_the_writer_stops_with_its_last_reader_and_may_say_a_last_word():
    async def main() -> None:
        stopped = asyncio.Event()

        async def write(log: EventStream) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.add("stopped", event="error")
                stopped.set()
                raise

        log = EventStream("a", "", 0)
        log.write_with(write)
        await asyncio.sleep(0)
        log.connect()
        log.connect()
        log.disconnect()
        await asyncio.sleep(0.01)
        assert not stopped.is_set()
        log.disconnect()
        await asyncio.wait_for(stopped.wait(), 1)
        await log.finished()
        assert log.done
        late: list[bytes] = []

        async def collect(data: bytes) -> None:
            late.append(data)

        await log.read(collect)
        assert late == [b"id: a:1\nevent: error\ndata: stopped\n\n"]

    asyncio.run(main())


def test_a_writer_waits_for_a_reader_to_come_back_when_it_is_told_to():
    async def main() -> None:
        async def write(log: EventStream) -> None:
            await asyncio.sleep(0.2)
            log.add("end")

        log = EventStream("a", "", 5)
        log.write_with(write)
        log.connect()
        log.disconnect()
        await log.finished()
        assert log.done
        assert not log._writer.cancelled()

    asyncio.run(main())


def test_logs_are_their_owners_alone_and_the_oldest_go_first():
    logs = EventStreams()
    logs.add(EventStream("mine", "me", 0))
    assert logs.find("mine", "me") is not None
    assert logs.find("mine", "you") is None
    for i in range(600):
        logs.add(EventStream(f"log-{i}", "me", 0))
    assert logs.find("mine", "me") is None
    assert logs.find("log-599", "me") is not None
