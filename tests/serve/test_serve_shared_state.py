"""The shared state: slots are never lost, never given twice, and the dead are noticed."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serve.workers.shared_state import RequestSlot, SharedState, WorkerState

SLOTS, WORKERS = 3, 2


class Places(RuleBasedStateMachine):
    """A server and two workers share a state of three slots."""

    def __init__(self) -> None:
        super().__init__()
        self.state = SharedState(SLOTS, WORKERS)
        self.held: list[RequestSlot] = []
        self.past: list[RequestSlot] = []
        self.owners: dict[RequestSlot, int] = {}

    @rule()
    def acquire(self) -> None:
        slot = self.state.acquire()
        assert (slot is None) == (len(self.held) == SLOTS)
        if slot is not None:
            assert slot not in self.held + self.past
            assert not self.state.is_claimed(slot)
            self.held.append(slot)

    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, twice: bool) -> None:
        if self.held:
            slot = data.draw(st.sampled_from(self.held))
            self.held.remove(slot)
            self.past.append(slot)
            self.owners.pop(slot, None)
            for _ in range(1 + twice):
                self.state.release(slot)

    @rule(data=st.data(), worker=st.integers(0, WORKERS - 1))
    def claim(self, data: st.DataObject, worker: int) -> None:
        free = [slot for slot in self.held if slot not in self.owners]
        if free:
            slot = data.draw(st.sampled_from(free))
            self.state.claim(slot, worker)
            self.owners[slot] = worker

    @rule(worker=st.integers(0, WORKERS - 1))
    def die(self, worker: int) -> None:
        before = self.state.worker_deaths()
        self.state.mark_dead(worker)
        assert self.state.worker_deaths() != before
        assert self.state.worker_state(worker) == WorkerState.DEAD
        for slot, owner in self.owners.items():
            if owner == worker:
                assert self.state.is_orphaned(slot)
                self.owners[slot] = -1

    @invariant()
    def the_table_knows_who_holds_what(self) -> None:
        assert self.state.slots_in_use() == len(self.held)
        for slot in self.held:
            assert self.state.is_live(slot)
            assert self.state.is_claimed(slot) == (slot in self.owners)
            assert self.state.is_orphaned(slot) == (self.owners.get(slot) == -1)
        for slot in self.past:
            assert not self.state.is_live(slot)


TestPlaces = Places.TestCase


def test_counters_add_up_over_workers_and_survive_a_death():
    state = SharedState(1, 2)
    state.increment("generated_tokens", 0, 5)
    state.increment("generated_tokens", 1, 6)
    state.set_gauge("active", 0, 1)
    state.mark_dead(0)
    assert state.total("generated_tokens") == 11
    assert state.total("active") == 0
    assert state.restarts() == 1
