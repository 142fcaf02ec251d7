// Threads that go through the same phases of a step, sharing each phase's items among them.
//
// Each thread begins with a stretch of the items that is its own, which keeps its reading of memory in one piece, and
// helps with the others' when it is done. A phase is over when its items are done, not when every thread has arrived:
// a thread that the operating system has put aside holds up the others only for the item it was at. On a machine with
// other work to do, a barrier a phase would cost a time slice each.

#pragma once

#include <sched.h>

#include <atomic>
#include <memory>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace resonance {

// What all threads of a team share: for each phase how many items are done, and how many of each stretch are taken.
class Phases {
  public:
    // For a step of at most so many phases; to be called before the threads begin.
    void begin(int phases, int members) {
        const int needed = phases * (members + 1);
        if (needed > size) counters.reset(new Counter[size = needed]);
        for (int i = 0; i < needed; i++) counters[i].value.store(0, std::memory_order_relaxed);
        this->members = members;
    }

  private:
    struct alignas(64) Counter {
        std::atomic<int> value;
    };
    std::unique_ptr<Counter[]> counters;
    int size = 0, members = 1;
    friend class Member;
};

// A stretch of memory that will be read soon.
struct Ahead {
    const uint8_t *next, *end;
};

// One thread's way through the phases. All members must call `share` with the same items in the same order.
class Member {
  public:
    Member(Phases& phases, int number) : number(number), members(phases.members), next(phases.counters.get()) {}

    const int number, members;

    // The first of this member's own items.
    int first_of(int count) const { return count * number / members; }

    // Do the items 0 ... count - 1 together; return when all are done, by whomever. Whoever has to wait for that
    // brings `ahead` into its cache meanwhile.
    template <class Work>
    void share(int count, Work&& work, Ahead ahead = {}) {
        std::atomic<int>& done = next->value;
        for (int i = 0; i < members; i++) {
            const int whose = (number + i) % members;
            const int first = count * whose / members, last = count * (whose + 1) / members;
            std::atomic<int>& taken = next[1 + whose].value;
            int finished = 0;
            while (taken.load(std::memory_order_relaxed) < last - first) {
                const int item = first + taken.fetch_add(1, std::memory_order_relaxed);
                if (item >= last) break;
                work(item);
                finished++;
            }
            if (finished) done.fetch_add(finished, std::memory_order_release);
        }
        next += 1 + members;
        for (int spins = 0; done.load(std::memory_order_acquire) < count; spins++) {
            if (ahead.next < ahead.end) {
                for (int i = 0; i < LINES_AT_ONCE; i++, ahead.next += 64) __builtin_prefetch(ahead.next, 0, 2);
            } else {
                pause(spins);
            }
        }
    }

  private:
    static constexpr int LINES_AT_ONCE = 8;

    static void pause(int spins) {
        if (spins % 1024 == 1023) sched_yield();
#if defined(__x86_64__)
        _mm_pause();
#endif
    }
    Phases::Counter* next;
};

}  // namespace resonance
