/* Numbers as ClickHouse's toString() writes them. */

#ifndef TAILSIGHT_NUMBER_H
#define TAILSIGHT_NUMBER_H

#include <stddef.h>
#include <stdint.h>

enum { INT_CHARS = 20, DOUBLE_CHARS = 32 };

/* 10^k for k from -292 to 324, each as two 64-bit halves of a 128-bit significand, the high one first. */
enum { SMALLEST_POWER = -292, LARGEST_POWER = 324, POWERS = LARGEST_POWER - SMALLEST_POWER + 1 };
extern uint64_t powers_of_10[POWERS][2];

/* Write at most INT_CHARS characters; return how many. */
size_t write_int(char *out, int64_t number);

/* Write the shortest decimal that reads back as the same double, and of those the nearest; at most DOUBLE_CHARS. */
size_t write_double(char *out, uint64_t bits);

#endif
