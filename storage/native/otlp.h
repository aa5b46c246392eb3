/* OTLP's messages as the store takes them (opentelemetry-proto 1.x: trace.proto, common.proto, resource.proto).
 *
 * What is read here is read strictly: fields in order, each at most once where the message has one, in their own wire
 * type, strings in UTF-8. Whatever is allowed beyond that is left to the careful way, in Python and in the database. */

#ifndef TAILSIGHT_OTLP_H
#define TAILSIGHT_OTLP_H

#include "reader.h"

/* In the order of tailsight_rejection (sql/migrations/0007_views.sql) and REASONS (tailsight_collector/receive/checks.py). */
enum Reason {
    STORED,
    TRACE_ID_LENGTH,
    TRACE_ID_ZERO,
    SPAN_ID_LENGTH,
    SPAN_ID_ZERO,
    PARENT_SPAN_ID_LENGTH,
    END_BEFORE_START,
    BEFORE_2000,
    IN_THE_FUTURE,
    REASONS
};

/* The members of AnyValue's oneof, by field number. */
enum ValueType { UNSET, STRING, BOOL, INT, DOUBLE, ARRAY, KVLIST, BYTES_VALUE, VALUE_TYPES };

typedef struct {
    enum ValueType type;
    uint64_t number; /* of BOOL, INT (two's complement) and DOUBLE (its bits) */
    Slice bytes;     /* of STRING, BYTES_VALUE, and of ARRAY and KVLIST their message */
} Value;

typedef struct {
    Slice key;
    Value value;
} Pair;

typedef struct {
    Slice message;
    Slice trace_id, span_id, parent_span_id, trace_state, name, status_message;
    uint64_t start_ns, end_ns;
    int32_t kind, status_code;
    bool has_events, has_links;
} Span;

typedef struct {
    Slice message;
    Slice name, version;
    bool is_numbered; /* has the attribute tailsight.batch.number */
} Scope;

bool read_value(Slice message, Value *out);
bool read_pair(Slice message, Pair *out);
/* With all that lies in its attributes, events and links; `check_inside` false leaves that unread. */
bool read_span(Slice message, Span *out, bool check_inside);
bool read_scope(Slice message, Scope *out);
bool check_resource(Slice message);

enum Reason reason_of(const Span *span, uint64_t received_ns);

static inline bool
equals(Slice s, const char *text, size_t length)
{
    return length_of(s) == length && memcmp(s.at, text, length) == 0;
}

#define IS(slice, literal) equals((slice), (literal), sizeof(literal) - 1)

#endif
