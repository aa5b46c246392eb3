#include "dictionary.h"

enum {
    FIRST_SLOTS = 64,
    VERSION_AND_KEYS = 0x600, /* has additional keys, and needs an update of the dictionary */
};

uint64_t dictionary_seed;

static inline uint64_t
mixed(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)(a ^ UINT64_C(0x9E3779B97F4A7C15)) * (b ^ dictionary_seed);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t
hash_of(Slice text)
{
    uint64_t hash = dictionary_seed ^ length_of(text), eight;
    while (length_of(text) >= 8) {
        memcpy(&eight, text.at, 8);
        hash = mixed(hash, eight);
        text.at += 8;
    }
    eight = 0;
    if (text.at < text.end) {
        memcpy(&eight, text.at, length_of(text));
    }
    return (uint32_t)mixed(hash, eight);
}

static bool
grow(Dictionary *d)
{
    uint32_t size = d->slots ? (d->slot_mask + 1) * 2 : FIRST_SLOTS;
    uint32_t *slots = size ? calloc(size, sizeof *slots) : NULL;
    if (slots == NULL) {
        return false;
    }
    const Entry *entries = (const Entry *)(const void *)d->entries.data;
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t slot = entries[i].hash & (size - 1);
        while (slots[slot]) {
            slot = (slot + 1) & (size - 1);
        }
        slots[slot] = i + 1;
    }
    free(d->slots);
    d->slots = slots;
    d->slot_mask = size - 1;
    return true;
}

uint32_t
text_number(Dictionary *d, Slice text)
{
    uint32_t hash = hash_of(text);
    size_t length = length_of(text);
    if ((d->slots == NULL || d->count >= d->slot_mask / 2) && !grow(d)) {
        d->is_full = true;
        return 0;
    }
    uint32_t slot = hash & d->slot_mask;
    const Entry *entries = (const Entry *)(const void *)d->entries.data;
    for (; d->slots[slot]; slot = (slot + 1) & d->slot_mask) {
        uint32_t number = d->slots[slot] - 1;
        if (entries[number].hash == hash && is_text(d, number, text)) {
            return number;
        }
    }
    put_varint(&d->texts, length);
    Entry entry = {hash, (uint32_t)length, d->texts.used};
    put_slice(&d->texts, text);
    put(&d->entries, &entry, sizeof entry);
    if (d->texts.is_full || d->entries.is_full) {
        d->is_full = true;
        return 0;
    }
    d->slots[slot] = ++d->count;
    return d->count - 1;
}

void
start_dictionary(Dictionary *d)
{
    d->texts.used = d->entries.used = d->rows.used = 0;
    d->count = 0;
    if (d->slots) {
        memset(d->slots, 0, (d->slot_mask + 1) * sizeof *d->slots);
    }
    text_number(d, (Slice){NULL, NULL});
}

void
drop_dictionary(Dictionary *d)
{
    drop(&d->texts);
    drop(&d->entries);
    drop(&d->rows);
    free(d->slots);
    *d = (Dictionary){0};
}

void
put_dictionary(Buffer *out, const Dictionary *d)
{
    size_t rows = d->rows.used / sizeof(uint32_t);
    if (!rows) {
        return;
    }
    unsigned width_log2 = d->count <= 0x100 ? 0 : d->count <= 0x10000 ? 1 : 2;
    put_u64(out, VERSION_AND_KEYS | width_log2);
    put_u64(out, d->count);
    put(out, d->texts.data, d->texts.used);
    put_u64(out, rows);
    uint8_t *to = reserve(out, rows << width_log2);
    if (to == NULL) {
        return;
    }
    const uint32_t *numbers = (const uint32_t *)(const void *)d->rows.data;
    for (size_t i = 0; i < rows; i++) {
        memcpy(to + (i << width_log2), &numbers[i], (size_t)1 << width_log2); /* the low bytes come first */
    }
    out->used += rows << width_log2;
}
