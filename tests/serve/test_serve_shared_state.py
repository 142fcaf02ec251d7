"""The shared table: places are never lost, never given twice, and the dead are noticed."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serve.workers.shared_state import Lease, LeaseTable, WorkerState

SLOTS, WORKERS = 3, 2


class Places(RuleBasedStateMachine):
    """A server and two workers share a table of three places."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(SLOTS, WORKERS)
        self.held: list[Lease] = []
        self.past: list[Lease] = []
        self.owners: dict[Lease, int] = {}

    @rule()
    def acquire(self) -> None:
        lease = self.table.acquire()
        assert (lease is None) == (len(self.held) == SLOTS)
        if lease is not None:
            assert lease not in self.held + self.past
            assert not self.table.claimed(lease)
            self.held.append(lease)

    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, twice: bool) -> None:
        if self.held:
            lease = data.draw(st.sampled_from(self.held))
            self.held.remove(lease)
            self.past.append(lease)
            self.owners.pop(lease, None)
            for _ in range(1 + twice):
                self.table.release(lease)

    @rule(data=st.data(), worker=st.integers(0, WORKERS - 1))
    def claim(self, data: st.DataObject, worker: int) -> None:
        free = [lease for lease in self.held if lease not in self.owners]
        if free:
            lease = data.draw(st.sampled_from(free))
            self.table.claim(lease, worker)
            self.owners[lease] = worker

    @rule(worker=st.integers(0, WORKERS - 1))
    def die(self, worker: int) -> None:
        before = self.table.epochs()
        self.table.bury(worker)
        assert self.table.epochs() != before
        assert self.table.state(worker) == WorkerState.DEAD
        for lease, owner in self.owners.items():
            if owner == worker:
                assert self.table.orphaned(lease)
                self.owners[lease] = -1

    @invariant()
    def the_table_knows_who_holds_what(self) -> None:
        assert self.table.taken() == len(self.held)
        for lease in self.held:
            assert self.table.live(lease)
            assert self.table.claimed(lease) == (lease in self.owners)
            assert self.table.orphaned(lease) == (self.owners.get(lease) == -1)
        for lease in self.past:
            assert not self.table.live(lease)


TestPlaces = Places.TestCase


def test_counters_add_up_over_workers_and_survive_a_death():
    table = LeaseTable(1, 2)
    table.count("generated_tokens", 0, 5)
    table.count("generated_tokens", 1, 6)
    table.set("active", 0, 1)
    table.bury(0)
    assert table.total("generated_tokens") == 11
    assert table.total("active") == 0
    assert table.restarts() == 1
