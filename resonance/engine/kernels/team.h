// Threads that go through the same phases of a step, sharing each phase's items among them.
//
// Items are taken one by one, and a phase is over when its items are done, not when every thread has arrived: a
// thread that the operating system has put aside holds up the others only for the item it was at. On a machine
// with other work to do, a barrier a phase would cost a time slice each.

#pragma once

#include <sched.h>

#include <atomic>
#include <memory>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace resonance {

// What all threads of a team share: for each phase how many items were taken, and how many are done.
class Phases {
  public:
    // For a step of at most so many phases; to be called before the threads begin.
    void begin(int phases) {
        if (phases > size) counters.reset(new Counters[size = phases]);
        for (int i = 0; i < phases; i++) counters[i].taken = counters[i].done = 0;
    }

  private:
    struct alignas(64) Counters {
        std::atomic<int> taken, done;
    };
    std::unique_ptr<Counters[]> counters;
    int size = 0;
    friend class Member;
};

// One thread's way through the phases. All members must call `share` with the same items in the same order.
class Member {
  public:
    explicit Member(Phases& phases) : next(phases.counters.get()) {}

    // Do the items 0 ... count - 1 together; return when all are done, by whomever.
    template <class Work>
    void share(int count, Work&& work) {
        Phases::Counters& phase = *next++;
        for (int item; (item = phase.taken.fetch_add(1, std::memory_order_relaxed)) < count;) {
            work(item);
            phase.done.fetch_add(1, std::memory_order_release);
        }
        for (int spins = 0; phase.done.load(std::memory_order_acquire) < count; spins++) pause(spins);
    }

  private:
    static void pause(int spins) {
        if (spins % 1024 == 1023) sched_yield();
#if defined(__x86_64__)
        _mm_pause();
#endif
    }
    Phases::Counters* next;
};

}  // namespace resonance
