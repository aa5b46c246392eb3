#include "match.h"

/* The bits of a span: which of the things that rules ask for it has. The first OWN_FACTS are the attributes of those that
 * no rule concerns. */
enum { MAX_FACTS = 128, OWN_FACTS = 2, OWN_BITS = (1 << OWN_FACTS) - 1, LENGTHS = 64 };

typedef struct {
    uint64_t words[2];
} Bits;

enum Where { ATTRIBUTE, EVENT, RESOURCE, PLACES };

/* An attribute, present or with this text; or an event's name. */
typedef struct {
    Slice key, value;
    bool has_value;
} Fact;

/* Texts, each with a prefix flag; none: any text will do. */
typedef struct {
    uint32_t count;
    Slice texts;
} Patterns;

typedef struct {
    uint32_t kinds; /* a bit each; 0: any */
    Bits all, none;
    uint32_t groups; /* of each, at least one */
    Slice group_bits;
    Patterns scope, version, name;
} Rule;

typedef struct {
    uint32_t facts;
    Fact fact[MAX_FACTS];
    Bits by_length[PLACES][LENGTHS]; /* the facts whose key has this length, modulo LENGTHS */
    bool asks[PLACES];
    uint32_t rules;
    Rule *rule;
    uint32_t *candidates; /* the rules that the present scope leaves */
    uint32_t candidate_count;
} Table;

static inline void
set_bit(Bits *bits, uint32_t number)
{
    bits->words[number / 64] |= UINT64_C(1) << number % 64;
}

static inline bool
has_all(const Bits *bits, const Bits *wanted)
{
    return (bits->words[0] & wanted->words[0]) == wanted->words[0] && (bits->words[1] & wanted->words[1]) == wanted->words[1];
}

static inline bool
has_any(const Bits *bits, const Bits *wanted)
{
    return (bits->words[0] & wanted->words[0]) | (bits->words[1] & wanted->words[1]);
}

/* --- the rules' bytes --- */

static bool
take_u32(Slice *s, uint32_t *out)
{
    if (length_of(*s) < 4) {
        return false;
    }
    memcpy(out, s->at, 4);
    s->at += 4;
    return true;
}

static bool
take_bits(Slice *s, Bits *out)
{
    if (length_of(*s) < sizeof *out) {
        return false;
    }
    memcpy(out, s->at, sizeof *out);
    s->at += sizeof *out;
    return true;
}

static bool
take_text(Slice *s, Slice *out)
{
    uint32_t length;
    if (!take_u32(s, &length) || length > length_of(*s)) {
        return false;
    }
    out->at = s->at;
    out->end = s->at += length;
    return true;
}

static bool
take_patterns(Slice *s, Patterns *out)
{
    if (!take_u32(s, &out->count)) {
        return false;
    }
    out->texts.at = s->at;
    for (uint32_t i = 0; i < out->count; i++) {
        uint32_t is_prefix;
        Slice text;
        if (!take_u32(s, &is_prefix) || !take_text(s, &text)) {
            return false;
        }
    }
    out->texts.end = s->at;
    return true;
}

static bool
take_fact(Slice *s, Table *table, uint32_t number)
{
    Fact *fact = &table->fact[number];
    uint32_t where, has_value;
    if (!take_u32(s, &where) || where >= PLACES || !take_u32(s, &has_value) || !take_text(s, &fact->key) ||
        !take_text(s, &fact->value)) {
        return false;
    }
    fact->has_value = has_value;
    set_bit(&table->by_length[where][length_of(fact->key) % LENGTHS], number);
    table->asks[where] = true;
    return true;
}

static bool
take_rule(Slice *s, Rule *rule)
{
    if (!take_u32(s, &rule->kinds) || !take_bits(s, &rule->all) || !take_bits(s, &rule->none) || !take_u32(s, &rule->groups) ||
        rule->groups > length_of(*s) / sizeof(Bits)) {
        return false;
    }
    rule->group_bits.at = s->at;
    rule->group_bits.end = s->at += rule->groups * sizeof(Bits);
    return take_patterns(s, &rule->scope) && take_patterns(s, &rule->version) && take_patterns(s, &rule->name);
}

static bool
take_table(Slice s, Table *table)
{
    if (!take_u32(&s, &table->facts) || table->facts > MAX_FACTS || table->facts < OWN_FACTS) {
        return false;
    }
    for (uint32_t i = 0; i < table->facts; i++) {
        if (!take_fact(&s, table, i)) {
            return false;
        }
    }
    if (!take_u32(&s, &table->rules) || table->rules > length_of(s)) {
        return false;
    }
    table->rule = calloc(table->rules + 1, sizeof *table->rule);
    table->candidates = calloc(table->rules + 1, sizeof *table->candidates);
    for (uint32_t i = 0; table->rule && table->candidates && i < table->rules; i++) {
        if (!take_rule(&s, &table->rule[i])) {
            return false;
        }
    }
    return s.at == s.end || !table->rule || !table->candidates;
}

/* --- a span --- */

static inline bool
is_same(Slice a, Slice b)
{
    return length_of(a) == length_of(b) && memcmp(a.at, b.at, length_of(a)) == 0;
}

static bool
fits(const Patterns *patterns, Slice text)
{
    Slice left = patterns->texts;
    for (uint32_t i = 0; i < patterns->count; i++) {
        uint32_t is_prefix = 0;
        Slice pattern = left;
        if (!take_u32(&left, &is_prefix) || !take_text(&left, &pattern)) {
            return false;
        }
        bool is_long_enough = length_of(text) >= length_of(pattern);
        if (is_same(text, pattern) || (is_prefix && is_long_enough && memcmp(text.at, pattern.at, length_of(pattern)) == 0)) {
            return true;
        }
    }
    return patterns->count == 0;
}

/* Set the bits of what a key stands for; `value` NULL: an event's name. */
static void
look_up(const Table *table, enum Where where, Slice key, const Value *value, Bits *bits)
{
    Bits may = table->by_length[where][length_of(key) % LENGTHS];
    for (int word = 0; word < 2; word++) {
        for (uint64_t left = may.words[word]; left; left &= left - 1) {
            uint32_t number = (uint32_t)(word * 64 + __builtin_ctzll(left));
            const Fact *fact = &table->fact[number];
            if (is_same(fact->key, key) &&
                (!fact->has_value || (value && value->type == STRING && is_same(fact->value, value->bytes)))) {
                set_bit(bits, number);
            }
        }
    }
}

static bool
look_up_pair(const Table *table, enum Where where, Slice message, Bits *bits)
{
    Pair pair;
    if (!read_pair(message, &pair)) {
        return false;
    }
    look_up(table, where, pair.key, &pair.value, bits);
    return true;
}

static bool
look_up_event(const Table *table, Slice message, Bits *bits)
{
    Fields f = {.left = message};
    Slice name = {message.end, message.end};
    while (next_field(&f) && f.number <= 2) {
        if (f.number == 2) {
            if (f.wire != BYTES) {
                return false;
            }
            name = f.bytes;
        }
    }
    look_up(table, EVENT, name, NULL, bits);
    return !f.is_wrong;
}

static bool
fits_rule(const Rule *rule, uint32_t kind, Slice name, const Bits *bits)
{
    if ((rule->kinds && !(rule->kinds >> kind & 1)) || !has_all(bits, &rule->all) || has_any(bits, &rule->none)) {
        return false;
    }
    const uint8_t *at = rule->group_bits.at;
    for (uint32_t i = 0; i < rule->groups; i++, at += sizeof(Bits)) {
        Bits group;
        memcpy(&group, at, sizeof group);
        if (!has_any(bits, &group)) {
            return false;
        }
    }
    return fits(&rule->name, name);
}

/* The number of the first rule that concerns a span, or the count of rules. */
static bool
rule_of(const Table *table, Slice message, const Bits *of_resource, uint32_t *out)
{
    Fields f = {.left = message};
    Slice name = {message.end, message.end};
    Bits bits = *of_resource;
    uint32_t kind = 0;
    *out = table->rules;
    while (next_field(&f) && f.number <= 11) {
        bool is_fine = true;
        if (f.number == 5) {
            is_fine = f.wire == BYTES;
            name = f.bytes;
        } else if (f.number == 6) {
            is_fine = f.wire == VARINT;
            kind = f.value <= 5 ? (uint32_t)f.value : 0;
        } else if (f.number == 9) {
            is_fine = f.wire == BYTES && look_up_pair(table, ATTRIBUTE, f.bytes, &bits);
            if (bits.words[0] & OWN_BITS) {
                return is_fine;
            }
        } else if (f.number == 11 && table->asks[EVENT]) {
            is_fine = f.wire == BYTES && look_up_event(table, f.bytes, &bits);
        }
        if (!is_fine) {
            return false;
        }
    }
    if (f.is_wrong) {
        return false;
    }
    for (uint32_t i = 0; i < table->candidate_count; i++) {
        if (fits_rule(&table->rule[table->candidates[i]], kind, name, &bits)) {
            *out = table->candidates[i];
            return true;
        }
    }
    return true;
}

/* --- a request --- */

static void
choose_candidates(Table *table, const Scope *scope)
{
    table->candidate_count = 0;
    for (uint32_t i = 0; i < table->rules; i++) {
        if (fits(&table->rule[i].scope, scope->name) && fits(&table->rule[i].version, scope->version)) {
            table->candidates[table->candidate_count++] = i;
        }
    }
}

static bool
match_scope_spans(Table *table, Slice message, const Bits *of_resource, uint32_t places[2], Buffer *found)
{
    Fields f = {.left = message};
    Scope scope = {.message = {message.end, message.end}, .name = {message.end, message.end}, .version = {message.end, message.end}};
    uint32_t place = 0;
    choose_candidates(table, &scope);
    while (next_field(&f)) {
        if (f.number == 1) {
            if (f.wire != BYTES || !read_scope(f.bytes, &scope)) {
                return false;
            }
            choose_candidates(table, &scope);
        } else if (f.number == 2) {
            uint32_t rule;
            if (f.wire != BYTES || !rule_of(table, f.bytes, of_resource, &rule)) {
                return false;
            }
            if (rule < table->rules) {
                uint32_t entry[4] = {places[0], places[1], place, rule};
                put(found, entry, sizeof entry);
            }
            place++;
        }
    }
    return !f.is_wrong;
}

static bool
match_resource_spans(Table *table, Slice message, uint32_t place, Buffer *found)
{
    Fields f = {.left = message};
    Bits bits = {{0, 0}};
    uint32_t places[2] = {place, 0};
    while (next_field(&f)) {
        if (f.number == 1 && table->asks[RESOURCE]) {
            Fields attributes = {.left = f.bytes};
            if (f.wire != BYTES) {
                return false;
            }
            while (next_field(&attributes) && attributes.number <= 1) {
                if (attributes.wire != BYTES || !look_up_pair(table, RESOURCE, attributes.bytes, &bits)) {
                    return false;
                }
            }
            if (attributes.is_wrong) {
                return false;
            }
        } else if (f.number == 2) {
            if (f.wire != BYTES || !match_scope_spans(table, f.bytes, &bits, places, found)) {
                return false;
            }
            places[1]++;
        }
    }
    return !f.is_wrong;
}

enum Matched
match_request(Slice message, Slice rules, Buffer *found)
{
    Table *table = calloc(1, sizeof *table);
    enum Matched result = MATCHED;
    if (table == NULL) {
        found->is_full = true;
        return result;
    }
    if (!take_table(rules, table)) {
        result = RULES_WRONG;
    } else if (!table->rule || !table->candidates) {
        found->is_full = true;
    } else {
        Fields f = {.left = message};
        uint32_t place = 0;
        while (result == MATCHED && next_field(&f)) {
            if (f.number == 1) {
                bool is_fine = f.wire == BYTES && match_resource_spans(table, f.bytes, place++, found);
                result = is_fine ? MATCHED : ODD;
            }
        }
        result = f.is_wrong ? ODD : result;
    }
    free(table->rule);
    free(table->candidates);
    free(table);
    return result;
}
