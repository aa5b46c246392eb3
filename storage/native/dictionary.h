/* A LowCardinality(String) column being made: each text once, and which of them every row has. */

#ifndef TAILSIGHT_DICTIONARY_H
#define TAILSIGHT_DICTIONARY_H

#include "buffer.h"

typedef struct {
    uint32_t hash, length;
    size_t at; /* of the text, in `texts` */
} Entry;

typedef struct {
    Buffer texts;   /* as String: length and bytes, one after the other */
    Buffer entries; /* Entry, one a text */
    Buffer rows;    /* uint32_t, the number of the row's text */
    uint32_t *slots; /* of the hash table: 0, or the number of an entry and 1 */
    uint32_t count, slot_mask;
    bool is_full;
} Dictionary;

/* Against texts that were made to fall into one slot; set once, at random. */
extern uint64_t dictionary_seed;

/* Find or add a text: its number. */
uint32_t text_number(Dictionary *d, Slice text);

/* Is it that text? */
static inline bool
is_text(const Dictionary *d, uint32_t number, Slice text)
{
    const Entry *entry = (const Entry *)(const void *)d->entries.data + number;
    size_t length = length_of(text);
    return entry->length == length && (length == 0 || memcmp(d->texts.data + entry->at, text.at, length) == 0);
}

static inline void
put_number(Dictionary *d, uint32_t number)
{
    put_u32(&d->rows, number);
}

static inline void
put_text(Dictionary *d, Slice text)
{
    put_number(d, text_number(d, text));
}

/* Make it one that has only '', which ClickHouse wants as the first. */
void start_dictionary(Dictionary *d);
void drop_dictionary(Dictionary *d);

/* Append the column as Native has it, behind its prefix (SerializationLowCardinality.cpp); nothing where it has no rows. */
void put_dictionary(Buffer *out, const Dictionary *d);

#endif
