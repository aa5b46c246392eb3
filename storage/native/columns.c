#include "columns.h"

#include "text.h"

static Slice
literal(const char *text)
{
    return (Slice){(const uint8_t *)text, (const uint8_t *)text + strlen(text)};
}

static const char *const TYPE_NAMES[VALUE_TYPES] = {"unset", "string", "bool", "int", "double", "array", "kvlist", "bytes"};
static const char *const REASON_NAMES[REASONS] = {
    "",
    "trace_id_length",
    "trace_id_zero",
    "span_id_length",
    "span_id_zero",
    "parent_span_id_length",
    "end_before_start",
    "before_2000",
    "in_the_future",
};

/* --- maps --- */

static inline uint32_t
number_at(const Buffer *numbers, uint64_t row)
{
    uint32_t number;
    memcpy(&number, numbers->data + row * sizeof number, sizeof number);
    return number;
}

/* The number that a key of the attributes, which has a number there, has among those that have a type. */
static uint32_t
number_of_key(Map *types, uint32_t number, Slice key)
{
    size_t at = number * sizeof(uint32_t), missing = at + sizeof(uint32_t);
    if (types->number_of_key.used < missing) {
        missing -= types->number_of_key.used;
        uint8_t *more = reserve(&types->number_of_key, missing);
        if (more == NULL) {
            return 0;
        }
        memset(more, 0, missing);
        types->number_of_key.used += missing;
    }
    uint32_t found = number_at(&types->number_of_key, number);
    if (found == 0) { /* not yet known, or '' */
        found = text_number(&types->keys, key);
        memcpy(types->number_of_key.data + at, &found, sizeof found);
    }
    return found;
}

static uint32_t
number_of_type(Map *types, enum ValueType type)
{
    if (types->number_of_type[type] == 0) {
        types->number_of_type[type] = text_number(&types->types, literal(TYPE_NAMES[type]));
    }
    return types->number_of_type[type];
}

/* Append a value as String: its length is known when it is written. */
static bool
put_value(Buffer *out, const Value *value)
{
    if (value->type == STRING) {
        put_string(out, value->bytes);
        return true;
    }
    size_t begin = out->used;
    put_u8(out, 0);
    if (!put_value_text(out, value)) {
        return false;
    }
    size_t length = out->used - begin - 1;
    if (length < 0x80) {
        if (!out->is_full) {
            out->data[begin] = (uint8_t)length;
        }
        return true;
    }
    uint8_t head[10];
    size_t head_bytes = 0;
    for (size_t left = length; left; left >>= 7) {
        head[head_bytes++] = (uint8_t)(left > 0x7F ? left | 0x80 : left);
    }
    if (reserve(out, head_bytes - 1) != NULL) {
        memmove(out->data + begin + head_bytes, out->data + begin + 1, length);
        memcpy(out->data + begin, head, head_bytes);
        out->used += head_bytes - 1;
    }
    return true;
}

/* Put the attributes of a message, which are its fields of a number, into a map and the map of their types. Most spans
 * have the keys of the span before, in the same order: so that is where they are looked for first. */
static bool
put_attributes(Map *map, Map *types, Slice message, uint32_t number)
{
    Fields f = {.left = message};
    /* where memory was short, fewer were put in than are counted */
    uint64_t guess = map->last_row, end = map->keys.rows.used / sizeof(uint32_t);
    map->last_row = map->pairs;
    while (next_field(&f) && f.number <= number) {
        if (f.number != number) {
            continue;
        }
        Pair pair;
        if (f.wire != BYTES || !read_pair(f.bytes, &pair) || !put_value(&map->values, &pair.value)) {
            return false;
        }
        uint32_t key;
        uint32_t guessed = guess < end ? number_at(&map->keys.rows, guess) : UINT32_MAX;
        if (guessed < map->keys.count && is_text(&map->keys, guessed, pair.key)) {
            key = guessed;
        } else {
            key = text_number(&map->keys, pair.key);
        }
        guess++;
        put_number(&map->keys, key);
        map->pairs++;
        if (types != NULL && pair.value.type != STRING) {
            put_number(&types->keys, number_of_key(types, key, pair.key));
            put_number(&types->types, number_of_type(types, pair.value.type));
            types->pairs++;
        }
    }
    put_u64(&map->offsets, map->pairs);
    if (types != NULL) {
        put_u64(&types->offsets, types->pairs);
    }
    return !f.is_wrong;
}

static void
put_pairs(const Columns *c, Map *map, const Pairs *pairs)
{
    put(&map->keys.rows, c->kept_numbers.data + pairs->numbers_at, pairs->pairs * sizeof(uint32_t));
    put(map->has_types ? &map->types.rows : &map->values, c->kept_values.data + pairs->values_at, pairs->values_bytes);
    map->pairs += pairs->pairs;
    put_u64(&map->offsets, map->pairs);
}

/* Take the one row of a map out again, for repetition. */
static Pairs
take_row(Columns *c, Map *map)
{
    Buffer *values = map->has_types ? &map->types.rows : &map->values;
    Pairs taken = {map->pairs, c->kept_numbers.used, c->kept_values.used, values->used};
    put(&c->kept_numbers, map->keys.rows.data, map->keys.rows.used);
    put(&c->kept_values, values->data, values->used);
    map->keys.rows.used = values->used = map->offsets.used = 0;
    map->pairs = map->last_row = 0;
    return taken;
}

static void
start_map(Map *map, bool has_types)
{
    map->has_types = has_types;
    map->pairs = map->last_row = 0;
    map->number_of_key.used = 0;
    memset(map->number_of_type, 0, sizeof map->number_of_type);
    map->offsets.used = map->values.used = 0;
    start_dictionary(&map->keys);
    if (has_types) {
        start_dictionary(&map->types);
    }
}

static void
drop_map(Map *map)
{
    drop(&map->offsets);
    drop_dictionary(&map->keys);
    drop(&map->values);
    drop_dictionary(&map->types);
    drop(&map->number_of_key);
}

static bool
is_map_full(const Map *map)
{
    return map->offsets.is_full || map->keys.is_full || map->keys.rows.is_full || map->values.is_full ||
           map->types.is_full || map->types.rows.is_full || map->number_of_key.is_full;
}

/* --- rows --- */

bool
set_context(Columns *c, Slice resource, const Scope *scope)
{
    size_t kept = c->kept_numbers.used + c->kept_values.used;
    Context context = {.scope_name = text_number(&c->scope_name, scope->name),
                       .scope_version = text_number(&c->scope_version, scope->version)};
    if (!put_attributes(&c->resource, &c->resource_types, resource, 1) ||
        !put_attributes(&c->scope_attributes, NULL, scope->message, 3)) {
        return false;
    }
    context.resource = take_row(c, &c->resource);
    context.resource_types = take_row(c, &c->resource_types);
    context.scope_attributes = take_row(c, &c->scope_attributes);
    put(&c->contexts, &context, sizeof context);
    c->common_bytes = c->kept_numbers.used + c->kept_values.used - kept;
    c->estimated_bytes += c->common_bytes;
    return true;
}

void
add_span(Columns *c, const Span *span, uint64_t received_ns, enum Reason reason)
{
    Row row = {*span, received_ns, (uint32_t)(c->contexts.used / sizeof(Context)) - 1, reason};
    put(&c->waiting, &row, sizeof row);
    c->estimated_bytes += c->common_bytes + length_of(span->message) + sizeof row;
}

static bool
put_event(Columns *c, Slice message)
{
    Fields f = {.left = message};
    uint64_t time_ns = 0;
    Slice name = {message.end, message.end};
    while (next_field(&f) && f.number <= 2) {
        if (f.number == 1) {
            time_ns = f.value;
        } else {
            name = f.bytes;
        }
    }
    put_u64(&c->event_time, time_ns);
    put_text(&c->event_name, name);
    c->events++;
    return !f.is_wrong && put_attributes(&c->event_attributes, &c->event_types, message, 3);
}

/* A link whose ids are wrong cannot be followed: they become zeros. */
static void
put_id(Buffer *out, Slice id, size_t length)
{
    static const uint8_t zeros[16];
    put(out, length_of(id) == length ? id.at : zeros, length);
}

static bool
put_link(Columns *c, Slice message)
{
    Fields f = {.left = message};
    Slice trace_id = {message.end, message.end}, span_id = trace_id;
    while (next_field(&f) && f.number <= 2) {
        if (f.number == 1) {
            trace_id = f.bytes;
        } else {
            span_id = f.bytes;
        }
    }
    put_id(&c->link_trace_id, trace_id, 16);
    put_id(&c->link_span_id, span_id, 8);
    c->links++;
    return !f.is_wrong && put_attributes(&c->link_attributes, &c->link_types, message, 4);
}

static bool
put_row(Columns *c, const Row *row)
{
    const Span *span = &row->span;
    const Context *context = (const Context *)(const void *)c->contexts.data + row->context;
    put_u64(&c->received_at, row->received_ns);
    put_number(&c->reason, row->reason == STORED ? 0 : text_number(&c->reason, literal(REASON_NAMES[row->reason])));
    put_string(&c->trace_id, span->trace_id);
    put_string(&c->span_id, span->span_id);
    put_string(&c->parent_span_id, span->parent_span_id);
    put_u64(&c->start, span->start_ns);
    put_u64(&c->end, span->end_ns);
    put_string(&c->name, span->name);
    put_u32(&c->kind, (uint32_t)span->kind);
    put_u32(&c->status_code, (uint32_t)span->status_code);
    put_string(&c->status_message, span->status_message);
    put_string(&c->trace_state, span->trace_state);
    put_pairs(c, &c->resource, &context->resource);
    put_pairs(c, &c->resource_types, &context->resource_types);
    put_number(&c->scope_name, context->scope_name);
    put_number(&c->scope_version, context->scope_version);
    put_pairs(c, &c->scope_attributes, &context->scope_attributes);
    c->rows++;
    if (!put_attributes(&c->attributes, &c->attribute_types, span->message, 9)) {
        return false;
    }
    if (span->has_events || span->has_links) {
        Fields f = {.left = span->message};
        while (next_field(&f) && f.number <= 13) {
            if ((f.number == 11 && !put_event(c, f.bytes)) || (f.number == 13 && !put_link(c, f.bytes))) {
                return false;
            }
        }
    }
    put_u64(&c->event_ends, c->events);
    put_u64(&c->link_ends, c->links);
    return true;
}

/* The key of the table spans (sql/migrations/0003): minute, trace id, start. */
typedef struct {
    uint64_t minute, trace_id[2], start_ns;
    const Row *row;
} Place;

enum { ROWS_A_LOOK = 64 };

static int
compare_places(const void *left, const void *right)
{
    const Place *a = left, *b = right;
#define COMPARE(part)                                                                                                      \
    if (a->part != b->part) {                                                                                              \
        return a->part < b->part ? -1 : 1;                                                                                 \
    }
    COMPARE(minute)
    COMPARE(trace_id[0])
    COMPARE(trace_id[1])
    COMPARE(start_ns)
#undef COMPARE
    return a->row < b->row ? -1 : 1; /* as they came: the same bytes always make the same block */
}

static uint64_t
big_endian(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static bool
put_rows(Columns *c)
{
    size_t count = spans_waiting(c);
    const Row *rows = (const Row *)(const void *)c->waiting.data;
    Place *places = malloc(count * sizeof *places);
    if (places == NULL) {
        c->waiting.is_full = true;
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        const Span *span = &rows[i].span;
        bool has_id = length_of(span->trace_id) == 16;
        places[i] = (Place){
            .minute = span->start_ns / UINT64_C(60000000000),
            .trace_id = {has_id ? big_endian(span->trace_id.at) : 0, has_id ? big_endian(span->trace_id.at + 8) : 0},
            .start_ns = span->start_ns,
            .row = &rows[i],
        };
    }
    qsort(places, count, sizeof *places, compare_places);
    bool is_fine = true;
    for (size_t i = 0; i < count && is_fine; i++) {
        if (i % ROWS_A_LOOK == 0 && is_out_of_memory(c)) {
            break;
        }
        is_fine = put_row(c, places[i].row);
    }
    free(places);
    return is_fine;
}

/* --- the block --- */

/* Everything that is a Buffer, a Dictionary or a Map of the columns. */
#define BUFFERS(DO)                                                                                                        \
    DO(received_at) DO(trace_id) DO(span_id) DO(parent_span_id) DO(start) DO(end) DO(name) DO(kind) DO(status_code)        \
    DO(status_message) DO(trace_state) DO(waiting) DO(contexts) DO(kept_numbers) DO(kept_values) DO(event_ends) DO(event_time) DO(link_ends) DO(link_trace_id) DO(link_span_id)
#define DICTIONARIES(DO) DO(reason) DO(scope_name) DO(scope_version) DO(event_name)
#define MAPS(DO)                                                                                                           \
    DO(attributes, false) DO(attribute_types, true) DO(resource, false) DO(resource_types, true)                           \
    DO(scope_attributes, false) DO(event_attributes, false) DO(event_types, true) DO(link_attributes, false)               \
    DO(link_types, true)

void
start_columns(Columns *c)
{
    c->rows = c->events = c->links = 0;
    c->estimated_bytes = c->common_bytes = 0;
#define START(name) c->name.used = 0;
    BUFFERS(START)
#undef START
#define START(name) start_dictionary(&c->name);
    DICTIONARIES(START)
#undef START
#define START(name, has_types) start_map(&c->name, has_types);
    MAPS(START)
#undef START
}

void
drop_columns(Columns *c)
{
#define DROP(name) drop(&c->name);
    BUFFERS(DROP)
#undef DROP
#define DROP(name) drop_dictionary(&c->name);
    DICTIONARIES(DROP)
#undef DROP
#define DROP(name, has_types) drop_map(&c->name);
    MAPS(DROP)
#undef DROP
}

bool
is_out_of_memory(const Columns *c)
{
    bool is_full = false;
#define ASK(name) is_full |= c->name.is_full;
    BUFFERS(ASK)
#undef ASK
#define ASK(name) is_full |= c->name.is_full || c->name.rows.is_full;
    DICTIONARIES(ASK)
#undef ASK
#define ASK(name, has_types) is_full |= is_map_full(&c->name);
    MAPS(ASK)
#undef ASK
    return is_full;
}

#define LOW_CARDINALITY "LowCardinality(String)"
#define MAP_OF_TEXTS "Map(" LOW_CARDINALITY ", String)"
#define MAP_OF_TYPES "Map(" LOW_CARDINALITY ", " LOW_CARDINALITY ")"
enum { COLUMNS = 27, DICTIONARY_VERSION = 1 };

static void
put_head(Buffer *out, const char *name, const char *type)
{
    put_string(out, literal(name));
    put_string(out, literal(type));
}

static void
put_buffer(Buffer *out, const char *name, const char *type, const Buffer *data)
{
    put_head(out, name, type);
    put(out, data->data, data->used);
}

/* A dictionary, or an array of one where `ends` says where each row's part ends. */
static void
put_dictionary_column(Buffer *out, const char *name, const Dictionary *d, const Buffer *ends)
{
    put_head(out, name, ends ? "Array(" LOW_CARDINALITY ")" : LOW_CARDINALITY);
    put_u64(out, DICTIONARY_VERSION);
    if (ends) {
        put(out, ends->data, ends->used);
    }
    put_dictionary(out, d);
}

static void
put_map_column(Buffer *out, const char *name, const Map *map, const Buffer *ends)
{
    if (ends) {
        put_head(out, name, map->has_types ? "Array(" MAP_OF_TYPES ")" : "Array(" MAP_OF_TEXTS ")");
    } else {
        put_head(out, name, map->has_types ? MAP_OF_TYPES : MAP_OF_TEXTS);
    }
    put_u64(out, DICTIONARY_VERSION);
    if (map->has_types) {
        put_u64(out, DICTIONARY_VERSION);
    }
    if (ends) {
        put(out, ends->data, ends->used);
    }
    put(out, map->offsets.data, map->offsets.used);
    put_dictionary(out, &map->keys);
    if (map->has_types) {
        put_dictionary(out, &map->types);
    } else {
        put(out, map->values.data, map->values.used);
    }
}

static void
put_array(Buffer *out, const char *name, const char *type, const Buffer *data, const Buffer *ends)
{
    put_buffer(out, name, type, ends);
    put(out, data->data, data->used);
}

bool
put_block(Buffer *out, Columns *c)
{
    if (!put_rows(c)) {
        return false;
    }
    if (is_out_of_memory(c)) {
        return true;
    }
    put_varint(out, COLUMNS);
    put_varint(out, c->rows);
    put_buffer(out, "received_at", "DateTime64(9, 'UTC')", &c->received_at);
    put_dictionary_column(out, "reason", &c->reason, NULL);
    put_buffer(out, "trace_id", "String", &c->trace_id);
    put_buffer(out, "span_id", "String", &c->span_id);
    put_buffer(out, "parent_span_id", "String", &c->parent_span_id);
    put_buffer(out, "start_time_unix_nano", "UInt64", &c->start);
    put_buffer(out, "end_time_unix_nano", "UInt64", &c->end);
    put_buffer(out, "name", "String", &c->name);
    put_buffer(out, "kind", "Int32", &c->kind);
    put_buffer(out, "status_code", "Int32", &c->status_code);
    put_buffer(out, "status_message", "String", &c->status_message);
    put_buffer(out, "trace_state", "String", &c->trace_state);
    put_map_column(out, "attributes", &c->attributes, NULL);
    put_map_column(out, "attribute_types", &c->attribute_types, NULL);
    put_map_column(out, "resource", &c->resource, NULL);
    put_map_column(out, "resource_types", &c->resource_types, NULL);
    put_dictionary_column(out, "scope_name", &c->scope_name, NULL);
    put_dictionary_column(out, "scope_version", &c->scope_version, NULL);
    put_map_column(out, "scope_attributes", &c->scope_attributes, NULL);
    put_array(out, "events.time", "Array(DateTime64(9, 'UTC'))", &c->event_time, &c->event_ends);
    put_dictionary_column(out, "events.name", &c->event_name, &c->event_ends);
    put_map_column(out, "events.attributes", &c->event_attributes, &c->event_ends);
    put_map_column(out, "events.attribute_types", &c->event_types, &c->event_ends);
    put_array(out, "links.trace_id", "Array(FixedString(16))", &c->link_trace_id, &c->link_ends);
    put_array(out, "links.span_id", "Array(FixedString(8))", &c->link_span_id, &c->link_ends);
    put_map_column(out, "links.attributes", &c->link_attributes, &c->link_ends);
    put_map_column(out, "links.attribute_types", &c->link_types, &c->link_ends);
    start_columns(c);
    return true;
}
