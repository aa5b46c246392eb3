/* Bytes that grow. Once memory is short everything that is put in is dropped, and `is_full` says so. */

#ifndef TAILSIGHT_BUFFER_H
#define TAILSIGHT_BUFFER_H

#include "reader.h"

#include <stdlib.h>

typedef struct {
    uint8_t *data;
    size_t used, size;
    bool is_full;
} Buffer;

static inline uint8_t *
reserve(Buffer *b, size_t more)
{
    if (b->size - b->used >= more) {
        return b->data + b->used;
    }
    size_t wanted = b->size + b->size / 2 + more + 256;
    uint8_t *larger = b->is_full ? NULL : realloc(b->data, wanted);
    if (larger == NULL) {
        b->is_full = true;
        return NULL;
    }
    b->data = larger;
    b->size = wanted;
    return b->data + b->used;
}

static inline void
put(Buffer *b, const void *data, size_t length)
{
    uint8_t *at = reserve(b, length);
    if (at != NULL && length) {
        memcpy(at, data, length);
        b->used += length;
    }
}

static inline void
put_slice(Buffer *b, Slice s)
{
    put(b, s.at, length_of(s));
}

static inline void
put_u8(Buffer *b, uint8_t value)
{
    put(b, &value, 1);
}

/* ClickHouse's formats are little-endian, and so is every machine that this is compiled for (otlp_module.c asks). */
static inline void
put_u32(Buffer *b, uint32_t value)
{
    put(b, &value, 4);
}

static inline void
put_u64(Buffer *b, uint64_t value)
{
    put(b, &value, 8);
}

static inline void
put_varint(Buffer *b, uint64_t value)
{
    uint8_t bytes[10];
    size_t count = 0;
    while (value > 0x7F) {
        bytes[count++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[count++] = (uint8_t)value;
    put(b, bytes, count);
}

/* A String of RowBinary and Native: its length, and it. */
static inline void
put_string(Buffer *b, Slice s)
{
    size_t length = length_of(s);
    if (length < 0x80) {
        uint8_t *at = reserve(b, length + 1);
        if (at != NULL) {
            *at = (uint8_t)length;
            if (length) {
                memcpy(at + 1, s.at, length);
            }
            b->used += length + 1;
        }
        return;
    }
    put_varint(b, length);
    put_slice(b, s);
}

static inline void
drop(Buffer *b)
{
    free(b->data);
    *b = (Buffer){0};
}

#endif
