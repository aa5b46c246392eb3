/* Protobuf's wire format, read without trust: https://protobuf.dev/programming-guides/encoding/
 *
 * Every function that reads returns false where the bytes are not what it expects; nothing is read beyond `end`. */

#ifndef TAILSIGHT_READER_H
#define TAILSIGHT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *at, *end;
} Slice;

enum Wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static inline size_t
length_of(Slice s)
{
    return (size_t)(s.end - s.at);
}

static inline bool
read_varint(Slice *s, uint64_t *out)
{
    if (s->at < s->end && *s->at < 0x80) {
        *out = *s->at++;
        return true;
    }
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        uint8_t byte = *s->at++;
        if (shift == 63 && byte > 1) {
            return false;
        }
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static inline bool
read_fixed64(Slice *s, uint64_t *out)
{
    if (length_of(*s) < 8) {
        return false;
    }
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value |= (uint64_t)s->at[i] << (8 * i);
    }
    s->at += 8;
    *out = value;
    return true;
}

static inline bool
read_bytes(Slice *s, Slice *out)
{
    uint64_t length;
    if (!read_varint(s, &length) || length > length_of(*s)) {
        return false;
    }
    out->at = s->at;
    out->end = s->at += length;
    return true;
}

/* A message's fields, one after the other. They must come in the order of their numbers, as every encoder that is in use
 * writes them: then a field that may come once and comes twice stands beside itself. Start with {.left = message}. */
typedef struct {
    Slice left;
    uint32_t number, before; /* this field, and the one before it */
    unsigned wire;
    uint64_t value; /* of VARINT, FIXED64 and FIXED32 */
    Slice bytes;    /* of BYTES */
    bool is_wrong;
} Fields;

static inline bool
next_field(Fields *f)
{
    if (f->left.at == f->left.end) {
        return false;
    }
    uint64_t tag;
    f->before = f->number;
    bool is_fine = read_varint(&f->left, &tag) && tag <= UINT32_MAX;
    if (is_fine) {
        f->number = (uint32_t)tag >> 3;
        f->wire = tag & 7;
        is_fine = f->number >= 1 && f->number >= f->before;
    }
    if (is_fine) {
        switch (f->wire) {
        case VARINT:
            is_fine = read_varint(&f->left, &f->value);
            break;
        case FIXED64:
            is_fine = read_fixed64(&f->left, &f->value);
            break;
        case BYTES:
            is_fine = read_bytes(&f->left, &f->bytes);
            break;
        case FIXED32:
            is_fine = length_of(f->left) >= 4;
            if (is_fine) {
                f->value = (uint64_t)f->left.at[0] | (uint64_t)f->left.at[1] << 8 | (uint64_t)f->left.at[2] << 16 |
                           (uint64_t)f->left.at[3] << 24;
                f->left.at += 4;
            }
            break;
        default:
            is_fine = false; /* groups */
        }
    }
    f->is_wrong = !is_fine;
    return is_fine;
}

/* Is this field, which a message has once, of the wire type that it should have, and here for the first time? */
static inline bool
is_single(const Fields *f, unsigned wire)
{
    return f->wire == wire && f->number > f->before;
}

/* Is it UTF-8, as protobuf asks of strings? (Unicode 15, table 3-7) */
static inline bool
is_utf8(Slice s)
{
    const uint8_t *at = s.at, *end = s.end;
    while (at < end) {
        uint64_t eight;
        while (end - at >= 8 && (memcpy(&eight, at, 8), (eight & UINT64_C(0x8080808080808080)) == 0)) {
            at += 8;
        }
        if (at == end) {
            return true;
        }
        uint8_t first = *at++;
        if (first < 0x80) {
            continue;
        }
        int more;
        uint8_t low = 0x80, high = 0xBF;
        if (first >= 0xC2 && first <= 0xDF) {
            more = 1;
        } else if (first >= 0xE0 && first <= 0xEF) {
            more = 2;
            low = first == 0xE0 ? 0xA0 : low;
            high = first == 0xED ? 0x9F : high;
        } else if (first >= 0xF0 && first <= 0xF4) {
            more = 3;
            low = first == 0xF0 ? 0x90 : low;
            high = first == 0xF4 ? 0x8F : high;
        } else {
            return false;
        }
        if (end - at < more || *at < low || *at > high) {
            return false;
        }
        for (int i = 1; i < more; i++) {
            if (at[i] < 0x80 || at[i] > 0xBF) {
                return false;
            }
        }
        at += more;
    }
    return true;
}

#endif
