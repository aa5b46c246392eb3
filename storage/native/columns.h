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
} Map;

/* The pairs of a resource or scope, which all its spans have: put in for each of them without looking again. */
typedef struct {
    uint64_t pairs;
    Buffer keys; /* numbers in the Map's dictionary */
    Buffer values;
} Pairs;

typedef struct {
    size_t rows;
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
    /* what is the same for many spans */
    Pairs of_resource, of_resource_types, of_scope;
    uint32_t scope_name_number, scope_version_number;
} Columns;

void start_columns(Columns *c);
void drop_columns(Columns *c);

/* From here on spans are of this resource, and then of this scope. False where attributes cannot be read. */
bool set_resource(Columns *c, Slice message);
bool set_scope(Columns *c, const Scope *scope);
bool put_span(Columns *c, const Span *span, uint64_t received_ns, enum Reason reason);

/* About how many bytes the block has. */
size_t size_of_columns(const Columns *c);
/* Append all rows as one block. */
void put_block(Buffer *out, const Columns *c);
bool is_out_of_memory(const Columns *c);

#endif
