/* Spans as columns of the table span_arrivals (sql/migrations/0006), in ClickHouse's format Native. */

#ifndef TAILSIGHT_COLUMNS_H
#define TAILSIGHT_COLUMNS_H

#include "dictionary.h"
#include "otlp.h"

/* A Map(LowCardinality(String), String), or of types: the values are another dictionary's. */
typedef struct {
    Buffer offsets; /* uint64_t a row: where its pairs end */
    uint64_t pairs;
    Dictionary keys;
    bool has_types;
    Buffer values;
    Dictionary types;
    uint64_t last_row;                   /* where the pairs of the row before begin */
    Buffer number_of_key;                /* of types: uint32_t by the key's number in the map beside it; 0: not known */
    uint32_t number_of_type[VALUE_TYPES];
} Map;

/* The pairs of a resource or scope, which all its spans have: put in for each of them without looking again. They are
 * pieces of the buffers `kept_numbers` and `kept_values`. */
typedef struct {
    uint64_t pairs;
    size_t numbers_at, values_at, values_bytes;
} Pairs;

/* What the spans of a scope have in common. */
typedef struct {
    Pairs resource, resource_types, scope_attributes;
    uint32_t scope_name, scope_version;
} Context;

/* A span that waits for its place. */
typedef struct {
    Span span;
    uint64_t received_ns;
    uint32_t context; /* its place in `contexts` */
    enum Reason reason;
} Row;

typedef struct {
    Buffer waiting;  /* Row */
    Buffer contexts; /* Context */
    Buffer kept_numbers, kept_values;
    size_t estimated_bytes; /* of the block */
    size_t common_bytes;    /* of it, what each span of the present context adds beside itself */

    uint64_t rows;
    Buffer received_at, trace_id, span_id, parent_span_id, start, end, name, kind, status_code, status_message, trace_state;
    Dictionary reason, scope_name, scope_version;
    Map attributes, attribute_types, resource, resource_types, scope_attributes;
    Buffer event_ends, event_time; /* uint64_t a row: where its events end */
    uint64_t events;
    Dictionary event_name;
    Map event_attributes, event_types;
    Buffer link_ends, link_trace_id, link_span_id;
    uint64_t links;
    Map link_attributes, link_types;
} Columns;

void start_columns(Columns *c);
void drop_columns(Columns *c);

/* From here on spans are of this resource and this scope. False where attributes cannot be read. */
bool set_context(Columns *c, Slice resource, const Scope *scope);
/* Let a span wait: its message must stay where it is. */
void add_span(Columns *c, const Span *span, uint64_t received_ns, enum Reason reason);
static inline size_t
spans_waiting(const Columns *c)
{
    return c->waiting.used / sizeof(Row);
}

/* Append the spans that wait as one block, in the order of the table spans, which then need not sort them; begin anew.
 * False where one of them cannot be read. */
bool put_block(Buffer *out, Columns *c);
bool is_out_of_memory(const Columns *c);

#endif
