#include "text.h"

#include "number.h"

/* Two levels are spelled out as JSON; what lies deeper keeps its encoded bytes (sql/otlp_traces.proto). */
enum { LEVELS = 2 };

static bool put_json(Buffer *out, const Value *value, int level);

static void
put_base64(Buffer *out, Slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = length_of(s);
    uint8_t *to = reserve(out, (length + 2) / 3 * 4);
    if (to == NULL) {
        return;
    }
    for (size_t i = 0; i < length; i += 3) {
        uint32_t three = (uint32_t)s.at[i] << 16;
        three |= i + 1 < length ? (uint32_t)s.at[i + 1] << 8 : 0;
        three |= i + 2 < length ? s.at[i + 2] : 0;
        *to++ = (uint8_t)digits[three >> 18];
        *to++ = (uint8_t)digits[three >> 12 & 63];
        *to++ = i + 1 < length ? (uint8_t)digits[three >> 6 & 63] : '=';
        *to++ = i + 2 < length ? (uint8_t)digits[three & 63] : '=';
    }
    out->used += (length + 2) / 3 * 4;
}

/* As toJSONString(). */
static void
put_json_string(Buffer *out, Slice s)
{
    put_u8(out, '"');
    const uint8_t *plain = s.at;
    for (const uint8_t *at = s.at; at < s.end; at++) {
        uint8_t byte = *at;
        bool is_separator = byte == 0xE2 && s.end - at >= 3 && at[1] == 0x80 && (at[2] == 0xA8 || at[2] == 0xA9);
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != '/' && !is_separator) {
            continue;
        }
        put_slice(out, (Slice){plain, at});
        static const char hex[] = "0123456789ABCDEF";
        char escaped[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
        size_t length = 2;
        switch (byte) {
        case '"':
        case '\\':
        case '/':
            escaped[1] = (char)byte;
            break;
        case '\b':
            escaped[1] = 'b';
            break;
        case '\f':
            escaped[1] = 'f';
            break;
        case '\n':
            escaped[1] = 'n';
            break;
        case '\r':
            escaped[1] = 'r';
            break;
        case '\t':
            escaped[1] = 't';
            break;
        case 0xE2:
            memcpy(escaped, at[2] == 0xA8 ? "\\u2028" : "\\u2029", 6);
            at += 2;
            length = 6;
            break;
        default:
            length = 6;
        }
        put(out, escaped, length);
        plain = at + 1;
    }
    put_slice(out, (Slice){plain, s.end});
    put_u8(out, '"');
}

static void
put_json_double(Buffer *out, uint64_t bits)
{
    char text[DOUBLE_CHARS];
    size_t length = write_double(text, bits);
    bool is_finite = (bits >> 52 & 0x7FF) != 0x7FF;
    if (!is_finite) {
        put_u8(out, '"');
    }
    put(out, text, length);
    if (!is_finite) {
        put_u8(out, '"');
    } else if (!memchr(text, '.', length) && !memchr(text, 'e', length)) {
        put(out, ".0", 2);
    }
}

static void
put_wrapped(Buffer *out, const char *opening, Slice bytes)
{
    put(out, opening, strlen(opening));
    put_base64(out, bytes);
    put(out, "\"}", 2);
}

/* The elements of an ArrayValue, or the pairs of a KeyValueList. */
static bool
put_json_inside(Buffer *out, const Value *value, int level)
{
    bool is_map = value->type == KVLIST;
    put_u8(out, is_map ? '{' : '[');
    Fields f = {.left = value->bytes};
    bool is_first = true;
    while (next_field(&f)) {
        if (f.number != 1) {
            continue;
        }
        Pair pair;
        if (f.wire != BYTES || !(is_map ? read_pair(f.bytes, &pair) : read_value(f.bytes, &pair.value))) {
            return false;
        }
        if (!is_first) {
            put_u8(out, ',');
        }
        is_first = false;
        if (is_map) {
            put_json_string(out, pair.key);
            put_u8(out, ':');
        }
        if (!put_json(out, &pair.value, level)) {
            return false;
        }
    }
    put_u8(out, is_map ? '}' : ']');
    return !f.is_wrong;
}

static bool
put_json(Buffer *out, const Value *value, int level)
{
    switch (value->type) {
    case STRING:
        put_json_string(out, value->bytes);
        return true;
    case DOUBLE:
        put_json_double(out, value->number);
        return true;
    case BYTES_VALUE:
        put_wrapped(out, "{\"$bytes\":\"", value->bytes);
        return true;
    case UNSET:
        put(out, "null", 4);
        return true;
    case ARRAY:
    case KVLIST:
        if (level < LEVELS) {
            return put_json_inside(out, value, level + 1);
        }
        put_wrapped(out, value->type == ARRAY ? "{\"$array\":\"" : "{\"$kvlist\":\"", value->bytes);
        return true;
    default:
        return put_value_text(out, value);
    }
}

bool
put_value_text(Buffer *out, const Value *value)
{
    char text[DOUBLE_CHARS];
    switch (value->type) {
    case STRING:
        put_slice(out, value->bytes);
        return true;
    case BOOL:
        put(out, value->number ? "true" : "false", value->number ? 4 : 5);
        return true;
    case INT:
        put(out, text, write_int(text, (int64_t)value->number));
        return true;
    case DOUBLE:
        put(out, text, write_double(text, value->number));
        return true;
    case BYTES_VALUE:
        put_base64(out, value->bytes);
        return true;
    case ARRAY:
    case KVLIST:
        return put_json_inside(out, value, 1);
    default:
        return true;
    }
}
