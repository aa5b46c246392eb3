/* Shortest doubles by Schubfach: R. Giulietti, "The Schubfach way to render doubles", 2021; the table of powers is
 * made in Python (tailsight_storage/decoder.py), where integers are as long as they need to be. */

#include "number.h"

#include <stdbool.h>
#include <string.h>

uint64_t powers_of_10[POWERS][2];

typedef unsigned __int128 Wide;

static size_t
write_digits(char *out, uint64_t number)
{
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    for (size_t i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    return count;
}

size_t
write_int(char *out, int64_t number)
{
    if (number >= 0) {
        return write_digits(out, (uint64_t)number);
    }
    *out = '-';
    return 1 + write_digits(out + 1, -(uint64_t)number);
}

/* floor(e * log10(2)), floor(e * log10(2) - log10(4/3)), floor(e * log2(10)); for the exponents of a double. */
static inline int
floor_log10_of_power_of_2(int e)
{
    return (int)((int64_t)e * 1262611 >> 22);
}

static inline int
floor_log10_of_three_quarters(int e)
{
    return (int)(((int64_t)e * 1262611 - 524031) >> 22);
}

static inline int
floor_log2_of_power_of_10(int e)
{
    return (int)((int64_t)e * 1741647 >> 19);
}

static inline uint64_t
round_to_odd(const uint64_t power[2], uint64_t c)
{
    Wide low = (Wide)power[1] * c, high = (Wide)power[0] * c;
    uint64_t middle = (uint64_t)high + (uint64_t)(low >> 64);
    uint64_t top = (uint64_t)(high >> 64) + (middle < (uint64_t)high);
    return top | (middle > 1);
}

typedef struct {
    uint64_t digits;
    int exponent;
} Decimal;

/* Of a finite double above zero. */
static Decimal
shortest(uint64_t fraction, int raw_exponent)
{
    uint64_t c = raw_exponent ? fraction | UINT64_C(1) << 52 : fraction;
    int q = (raw_exponent ? raw_exponent : 1) - 1075;
    if (q <= 0 && q > -53 && (c & ((UINT64_C(1) << -q) - 1)) == 0) {
        return (Decimal){c >> -q, 0};
    }
    bool is_even = c % 2 == 0, is_lower_closer = fraction == 0 && raw_exponent > 1;
    int k = is_lower_closer ? floor_log10_of_three_quarters(q) : floor_log10_of_power_of_2(q);
    int shift = q + floor_log2_of_power_of_10(-k) + 1;
    const uint64_t *power = powers_of_10[-k - SMALLEST_POWER];
    uint64_t below = round_to_odd(power, (4 * c - 2 + is_lower_closer) << shift) + !is_even;
    uint64_t itself = round_to_odd(power, (4 * c) << shift);
    uint64_t above = round_to_odd(power, (4 * c + 2) << shift) - !is_even;
    uint64_t s = itself / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        bool is_down_inside = below <= 40 * tens, is_up_inside = 40 * tens + 40 <= above;
        if (is_down_inside != is_up_inside) {
            return (Decimal){tens + is_up_inside, k + 1};
        }
    }
    bool is_down_inside = below <= 4 * s, is_up_inside = 4 * s + 4 <= above;
    if (is_down_inside != is_up_inside) {
        return (Decimal){s + is_up_inside, k};
    }
    uint64_t middle = 4 * s + 2;
    return (Decimal){s + (itself > middle || (itself == middle && s % 2)), k};
}

size_t
write_double(char *out, uint64_t bits)
{
    char *at = out;
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int raw_exponent = (int)(bits >> 52 & 0x7FF);
    if (raw_exponent == 0x7FF && fraction) {
        memcpy(at, "nan", 3);
        return 3;
    }
    if (bits >> 63) {
        *at++ = '-';
    }
    if (raw_exponent == 0x7FF) {
        memcpy(at, "inf", 3);
        return (size_t)(at + 3 - out);
    }
    if (!raw_exponent && !fraction) {
        *at++ = '0';
        return (size_t)(at - out);
    }
    Decimal decimal = shortest(fraction, raw_exponent);
    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.exponent++;
    }
    char digits[20];
    int count = (int)write_digits(digits, decimal.digits);
    int point = count + decimal.exponent; /* 0.DIGITS times 10^point */
    if (point > 21 || point < -5) {
        *at++ = digits[0];
        if (count > 1) {
            *at++ = '.';
            memcpy(at, digits + 1, (size_t)count - 1);
            at += count - 1;
        }
        *at++ = 'e';
        return (size_t)(at - out) + write_int(at, point - 1);
    }
    if (point <= 0) {
        memcpy(at, "0.00000", 7);
        at += 2 - point;
        memcpy(at, digits, (size_t)count);
        return (size_t)(at + count - out);
    }
    int whole = count < point ? count : point;
    memcpy(at, digits, (size_t)whole);
    memset(at + whole, '0', (size_t)(point - whole));
    at += point;
    if (count > point) {
        *at++ = '.';
        memcpy(at, digits + point, (size_t)(count - point));
        at += count - point;
    }
    return (size_t)(at - out);
}
