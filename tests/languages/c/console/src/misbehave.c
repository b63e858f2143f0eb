#include "misbehave.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jackfield.h"

enum { MIB = 1 << 20, PAGE_BYTES = 1 << 16 };

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void misbehave_spin(uint64_t ms) {
    uint64_t end = ms == UINT64_MAX ? ms : now_ms() + ms;
    volatile uint64_t turn = 0;
    while (end == UINT64_MAX || now_ms() < end) turn = turn + 1;
}

/* What it does with the result keeps the calls from being made a loop. The frame holds a number: it
 * is the call stack that runs out, not the stack in linear memory. */
__attribute__((noinline)) uint64_t misbehave_overflow_stack(uint64_t depth) {
    if (depth == UINT64_MAX) return 0;
    uint64_t below = misbehave_overflow_stack(depth + 1) * 31;
    return (below << 7 | below >> 57) ^ depth;
}

static void eat(size_t bytes) {
    char *eaten = malloc(bytes);
    if (!eaten) jf_panic("no memory for %zu bytes", bytes);
    memset(eaten, 1, bytes);
    /* Otherwise the compiler sees that none of this has a point. */
    __asm__ volatile("" : : "r"(eaten) : "memory");
}

void misbehave_eat_memory(size_t bytes) {
    if (bytes) eat(bytes);
    while (!bytes) eat(MIB);
}

bool misbehave_grow_memory(size_t bytes) {
    size_t pages = bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0);
    return __builtin_wasm_memory_grow(0, pages) != SIZE_MAX;
}
