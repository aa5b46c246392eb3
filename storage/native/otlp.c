#include "otlp.h"

/* As upb counts: what is nested more deeply is for its ears. */
enum { MAX_DEPTH = 60, STRING_INDEX = 8, ENTITY_REFS = 3 };

static bool check_value(const Value *value, int depth);

bool
read_value(Slice message, Value *out)
{
    Fields f = {.left = message};
    *out = (Value){.type = UNSET};
    while (next_field(&f)) {
        if (f.number >= VALUE_TYPES) {
            if (f.number == STRING_INDEX && f.wire == VARINT) {
                return false; /* of the same oneof, for other signals than ours */
            }
            continue;
        }
        static const unsigned wires[VALUE_TYPES] = {0, BYTES, VARINT, VARINT, FIXED64, BYTES, BYTES, BYTES};
        if (out->type != UNSET || f.wire != wires[f.number] || (f.number == BOOL && f.value > 1)) {
            return false;
        }
        out->type = (enum ValueType)f.number;
        out->number = f.value;
        out->bytes = f.bytes;
    }
    return !f.is_wrong;
}

bool
read_pair(Slice message, Pair *out)
{
    Fields f = {.left = message};
    *out = (Pair){.key = {message.end, message.end}, .value = {.type = UNSET}};
    while (next_field(&f)) {
        if (f.number == 1) {
            if (!is_single(&f, BYTES)) {
                return false;
            }
            out->key = f.bytes;
        } else if (f.number == 2) {
            if (!is_single(&f, BYTES) || !read_value(f.bytes, &out->value)) {
                return false;
            }
        }
    }
    return !f.is_wrong;
}

static bool
check_pair(Slice message, int depth)
{
    Pair pair;
    return read_pair(message, &pair) && is_utf8(pair.key) && check_value(&pair.value, depth);
}

static bool
check_value(const Value *value, int depth)
{
    if (value->type == STRING) {
        return is_utf8(value->bytes);
    }
    if (value->type != ARRAY && value->type != KVLIST) {
        return true;
    }
    if (depth >= MAX_DEPTH) {
        return false;
    }
    Fields f = {.left = value->bytes};
    while (next_field(&f)) {
        if (f.number != 1) {
            continue;
        }
        Value inner;
        if (f.wire != BYTES || !(value->type == KVLIST ? check_pair(f.bytes, depth + 1)
                                                       : read_value(f.bytes, &inner) && check_value(&inner, depth + 1))) {
            return false;
        }
    }
    return !f.is_wrong;
}

static bool
read_string(const Fields *f, Slice *out)
{
    *out = f->bytes;
    return is_single(f, BYTES) && is_utf8(f->bytes);
}

/* Nothing of an EntityRef is kept; but its fields are strings, which protobuf's readers look at. */
static bool
check_entity(Slice message)
{
    Fields f = {.left = message};
    while (next_field(&f)) {
        if (f.number <= 4 && !(f.wire == BYTES && (f.number > 2 || is_single(&f, BYTES)) && is_utf8(f.bytes))) {
            return false;
        }
    }
    return !f.is_wrong;
}

bool
check_resource(Slice message)
{
    Fields f = {.left = message};
    while (next_field(&f)) {
        if ((f.number == 1 && !(f.wire == BYTES && check_pair(f.bytes, 0))) ||
            (f.number == ENTITY_REFS && !(f.wire == BYTES && check_entity(f.bytes)))) {
            return false;
        }
    }
    return !f.is_wrong;
}

static bool
read_int32(const Fields *f, int32_t *out)
{
    *out = (int32_t)f->value; /* a negative one comes with its sign in 64 bits */
    return is_single(f, VARINT) && (int64_t)f->value == (int64_t)*out;
}

static bool
read_status(Slice message, Span *span)
{
    Fields f = {.left = message};
    while (next_field(&f)) {
        if ((f.number == 2 && !read_string(&f, &span->status_message)) ||
            (f.number == 3 && !read_int32(&f, &span->status_code))) {
            return false;
        }
    }
    return !f.is_wrong;
}

static bool
check_event(Slice message)
{
    Fields f = {.left = message};
    Slice name;
    while (next_field(&f)) {
        if ((f.number == 1 && !is_single(&f, FIXED64)) || (f.number == 2 && !read_string(&f, &name)) ||
            (f.number == 3 && !(f.wire == BYTES && check_pair(f.bytes, 0)))) {
            return false;
        }
    }
    return !f.is_wrong;
}

static bool
check_link(Slice message)
{
    Fields f = {.left = message};
    Slice state;
    while (next_field(&f)) {
        if (((f.number == 1 || f.number == 2) && !is_single(&f, BYTES)) || (f.number == 3 && !read_string(&f, &state)) ||
            (f.number == 4 && !(f.wire == BYTES && check_pair(f.bytes, 0)))) {
            return false;
        }
    }
    return !f.is_wrong;
}

bool
read_span(Slice message, Span *out, bool check_inside)
{
    Slice nothing = {message.end, message.end};
    *out = (Span){
        .message = message,
        .trace_id = nothing,
        .span_id = nothing,
        .parent_span_id = nothing,
        .trace_state = nothing,
        .name = nothing,
        .status_message = nothing,
    };
    Fields f = {.left = message};
    while (next_field(&f)) {
        bool is_fine = true;
        switch (f.number) {
        case 1:
            out->trace_id = f.bytes;
            is_fine = is_single(&f, BYTES);
            break;
        case 2:
            out->span_id = f.bytes;
            is_fine = is_single(&f, BYTES);
            break;
        case 3:
            is_fine = read_string(&f, &out->trace_state);
            break;
        case 4:
            out->parent_span_id = f.bytes;
            is_fine = is_single(&f, BYTES);
            break;
        case 5:
            is_fine = read_string(&f, &out->name);
            break;
        case 6:
            is_fine = read_int32(&f, &out->kind);
            break;
        case 7:
            out->start_ns = f.value;
            is_fine = is_single(&f, FIXED64);
            break;
        case 8:
            out->end_ns = f.value;
            is_fine = is_single(&f, FIXED64);
            break;
        case 9:
            is_fine = f.wire == BYTES && (!check_inside || check_pair(f.bytes, 0));
            break;
        case 11:
            out->has_events = true;
            is_fine = f.wire == BYTES && (!check_inside || check_event(f.bytes));
            break;
        case 13:
            out->has_links = true;
            is_fine = f.wire == BYTES && (!check_inside || check_link(f.bytes));
            break;
        case 15:
            is_fine = is_single(&f, BYTES) && read_status(f.bytes, out);
            break;
        default:
            break;
        }
        if (!is_fine) {
            return false;
        }
    }
    return !f.is_wrong;
}

bool
read_scope(Slice message, Scope *out)
{
    Slice nothing = {message.end, message.end};
    *out = (Scope){.message = message, .name = nothing, .version = nothing};
    Fields f = {.left = message};
    while (next_field(&f)) {
        if ((f.number == 1 && !read_string(&f, &out->name)) || (f.number == 2 && !read_string(&f, &out->version))) {
            return false;
        }
        if (f.number == 3) {
            Pair pair;
            if (f.wire != BYTES || !check_pair(f.bytes, 0) || !read_pair(f.bytes, &pair)) {
                return false;
            }
            out->is_numbered |= IS(pair.key, "tailsight.batch.number");
        }
    }
    return !f.is_wrong;
}

static bool
is_zero(Slice id)
{
    for (const uint8_t *at = id.at; at < id.end; at++) {
        if (*at) {
            return false;
        }
    }
    return true;
}

enum Reason
reason_of(const Span *span, uint64_t received_ns)
{
    static const uint64_t year_2000_ns = UINT64_C(946684800000000000), day_ns = UINT64_C(86400000000000);
    if (length_of(span->trace_id) != 16) {
        return TRACE_ID_LENGTH;
    }
    if (is_zero(span->trace_id)) {
        return TRACE_ID_ZERO;
    }
    if (length_of(span->span_id) != 8) {
        return SPAN_ID_LENGTH;
    }
    if (is_zero(span->span_id)) {
        return SPAN_ID_ZERO;
    }
    size_t parent = length_of(span->parent_span_id);
    if (parent != 0 && parent != 8) {
        return PARENT_SPAN_ID_LENGTH;
    }
    if (span->end_ns < span->start_ns) {
        return END_BEFORE_START;
    }
    if (span->start_ns < year_2000_ns) {
        return BEFORE_2000;
    }
    return span->end_ns > received_ns + day_ns ? IN_THE_FUTURE : STORED;
}
