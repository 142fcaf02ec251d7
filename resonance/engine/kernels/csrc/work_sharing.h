// Work sharing among the threads of a step, in phases: an OpenMP `for` with work stealing and without barriers.
//
// Each thread has a contiguous range of a phase's items, so that it reads memory contiguously, and helps with the other
// ranges when its own is done. A phase ends when its items are done, not when every thread has arrived: a thread that
// the operating system has preempted delays the others only by its current item. A barrier in each phase would cost a
// time slice each on a machine with other work.

#pragma once

#include <sched.h>

#include <atomic>
#include <memory>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace resonance {

// The counters that all threads share: for each phase, the number of items done and the items taken from each range.
class PhaseCounters {
  public:
    // Resets the counters for a step of at most `phases` phases, before the threads start.
    void reset(int phases, int threads) {
        const int needed = phases * (threads + 1);
        if (needed > size) counters.reset(new Counter[size = needed]);
        for (int i = 0; i < needed; i++) counters[i].value.store(0, std::memory_order_relaxed);
        this->threads = threads;
    }

  private:
    struct alignas(64) Counter {
        std::atomic<int> value;
    };
    std::unique_ptr<Counter[]> counters;
    int size = 0, threads = 1;
    friend class Worker;
};

// Memory that will be read soon.
struct PrefetchRange {
    const uint8_t *next, *end;
};

// One thread of a step. All threads call `parallel_for` with the same counts in the same order.
class Worker {
  public:
    Worker(PhaseCounters& phases, int thread) : thread(thread), threads(phases.threads), next(phases.counters.get()) {}

    const int thread, threads;

    // The first item of this thread's range.
    int first_item(int count) const { return count * thread / threads; }

    // Runs `work(item)` for items 0 ... count - 1 on all threads; returns when all are done. A thread that has to wait
    // prefetches `upcoming` meanwhile.
    template <class Work>
    void parallel_for(int count, Work&& work, PrefetchRange upcoming = {}) {
        std::atomic<int>& done = next->value;
        for (int i = 0; i < threads; i++) {
            const int owner = (thread + i) % threads;
            const int first = count * owner / threads, last = count * (owner + 1) / threads;
            std::atomic<int>& taken = next[1 + owner].value;
            int finished = 0;
            while (taken.load(std::memory_order_relaxed) < last - first) {
                const int item = first + taken.fetch_add(1, std::memory_order_relaxed);
                if (item >= last) break;
                work(item);
                finished++;
            }
            if (finished) done.fetch_add(finished, std::memory_order_release);
        }
        next += 1 + threads;
        for (int spins = 0; done.load(std::memory_order_acquire) < count; spins++) {
            if (upcoming.next < upcoming.end) {
                for (int i = 0; i < LINES_PER_SPIN; i++, upcoming.next += 64) __builtin_prefetch(upcoming.next, 0, 2);
            } else {
                pause(spins);
            }
        }
    }

  private:
    static constexpr int LINES_PER_SPIN = 8;

    static void pause(int spins) {
        if (spins % 1024 == 1023) sched_yield();
#if defined(__x86_64__)
        _mm_pause();
#endif
    }
    PhaseCounters::Counter* next;
};

}  // namespace resonance
