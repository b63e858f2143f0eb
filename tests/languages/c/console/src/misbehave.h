/* Bad events on purpose: what a node must survive. */
#ifndef MISBEHAVE_H
#define MISBEHAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Works for this time; UINT64_MAX: for ever. */
void misbehave_spin(uint64_t ms);
/* Calls itself until the call stack runs out. */
uint64_t misbehave_overflow_stack(uint64_t depth);
/* One allocation of this size, touched; 0: more and more until something gives way. */
void misbehave_eat_memory(size_t bytes);
/* Asks for linear memory without the allocator; whether the node granted it. */
bool misbehave_grow_memory(size_t bytes);

#endif
