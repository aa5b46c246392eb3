/* dumps(): what marshal.loads() reads.
 *
 * The same format as marshal.dumps() writes, in two thirds of the time: without its hash table of all objects that were
 * seen. Texts and large ints that come again (stages, keys, the thread, parents) are found in a small table instead.
 * No Python code runs in here, and nothing is allocated that is collected. */

#include "pack.h"

#include <marshal.h>

enum { FLAG_REF = 0x80, SEEN = 64, FIRST_BYTES = 2048, MAX_DEPTH = 100 };

typedef struct {
    char *at, *end, *begin;
    uint32_t references; /* so many objects were written with FLAG_REF */
    struct {
        PyObject *object; /* borrowed: what is packed outlives this */
        uint32_t number;
    } seen[SEEN];
    char first[FIRST_BYTES];
} Writer;

/* Make room for `size` bytes: 0, or -1 with an exception. */
static int
reserve(Writer *w, size_t size)
{
    if ((size_t)(w->end - w->at) >= size) {
        return 0;
    }
    size_t used = (size_t)(w->at - w->begin), wanted = (used + size) * 2;
    char *larger = PyMem_Malloc(wanted);
    if (larger == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(larger, w->begin, used);
    if (w->begin != w->first) {
        PyMem_Free(w->begin);
    }
    w->begin = larger;
    w->at = larger + used;
    w->end = larger + wanted;
    return 0;
}

/* These write through a copy of `at`: a char may alias the Writer itself, which would be read again for each. */
static inline void
put_byte(Writer *w, int byte)
{
    char *at = w->at;
    *at = (char)byte;
    w->at = at + 1;
}

/* A type and 32 bits, little end first. */
static inline void
put_head(Writer *w, int type, uint32_t value)
{
    unsigned char head[5] = {(unsigned char)type, (unsigned char)value, (unsigned char)(value >> 8),
                             (unsigned char)(value >> 16), (unsigned char)(value >> 24)};
    char *at = w->at;
    memcpy(at, head, sizeof(head));
    w->at = at + sizeof(head);
}

/* Whether the object was written before, and then refer to it. Otherwise it must be written next, with FLAG_REF. */
static inline int
written_before(Writer *w, PyObject *object)
{
    size_t place = ((uintptr_t)object >> 4) % SEEN;
    if (w->seen[place].object == object) {
        put_head(w, 'r', w->seen[place].number);
        return 1;
    }
    w->seen[place].object = object;
    w->seen[place].number = w->references++;
    return 0;
}

static int
put_bytes(Writer *w, int type, const char *bytes, Py_ssize_t size)
{
    if ((size_t)size > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "unmarshallable object");
        return -1;
    }
    if (reserve(w, (size_t)size + 5) < 0) {
        return -1;
    }
    put_head(w, type, (uint32_t)size);
    memcpy(w->at, bytes, (size_t)size);
    w->at += size;
    return 0;
}

static int
put_text(Writer *w, PyObject *text)
{
    if (written_before(w, text)) {
        return 0;
    }
    if (IS_READY(text) && PyUnicode_IS_ASCII(text)) {
        Py_ssize_t size = PyUnicode_GET_LENGTH(text);
        const char *bytes = (const char *)PyUnicode_1BYTE_DATA(text);
        if (size > 255) {
            return put_bytes(w, 'a' | FLAG_REF, bytes, size);
        }
        if (reserve(w, (size_t)size + 2) < 0) {
            return -1;
        }
        char *at = w->at;
        at[0] = (char)('z' | FLAG_REF);
        at[1] = (char)size;
        memcpy(at + 2, bytes, (size_t)size);
        w->at = at + 2 + size;
        return 0;
    }
    PyObject *encoded = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    if (encoded == NULL) {
        return -1;
    }
    int status = put_bytes(w, 'u' | FLAG_REF, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded));
    Py_DECREF(encoded);
    return status;
}

/* Write 2**63 <= number < 2**128, which trace ids are: 1, 0 if it is none, or -1 with an exception.
   PyMarshal_WriteObjectToString would raise an audit event, and so run Python code in the midst of packing. */
static int
put_up_to_128_bits(Writer *w, PyObject *number)
{
    PyObject *shift = PyLong_FromLong(64);
    PyObject *upper = shift == NULL ? NULL : PyNumber_Rshift(number, shift);
    Py_XDECREF(shift);
    if (upper == NULL) {
        return -1;
    }
    unsigned long long high = PyLong_AsUnsignedLongLong(upper);
    Py_DECREF(upper);
    if (high == (unsigned long long)-1 && PyErr_Occurred()) { /* negative, or longer */
        PyErr_Clear();
        return 0;
    }
    unsigned long long low = PyLong_AsUnsignedLongLongMask(number);
    if (reserve(w, 5 + 2 * 9) < 0) {
        return -1;
    }
    unsigned char all[2 * 9];
    uint32_t digits = 0;
    while (high != 0 || low != 0) {
        all[2 * digits] = (unsigned char)low;
        all[2 * digits + 1] = (unsigned char)(low >> 8 & 0x7f);
        low = low >> 15 | high << 49;
        high >>= 15;
        digits++;
    }
    put_head(w, 'l', digits);
    memcpy(w->at, all, 2 * (size_t)digits);
    w->at += 2 * (size_t)digits;
    return 1;
}

static int
put_int(Writer *w, PyObject *number)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow) { /* more than 64 bits: trace ids */
        int written = put_up_to_128_bits(w, number);
        if (written != 0) {
            return written < 0 ? -1 : 0;
        }
        PyObject *bytes = PyMarshal_WriteObjectToString(number, 2);
        if (bytes == NULL) {
            return -1;
        }
        size_t size = (size_t)PyBytes_GET_SIZE(bytes);
        int status = reserve(w, size);
        if (status == 0) {
            memcpy(w->at, PyBytes_AS_STRING(bytes), size);
            w->at += size;
        }
        Py_DECREF(bytes);
        return status;
    }
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (value >= INT32_MIN && value <= INT32_MAX) {
        put_head(w, 'i', (uint32_t)(int32_t)value);
        return 0;
    }
    if (written_before(w, number)) {
        return 0;
    }
    unsigned long long rest = value < 0 ? 0ULL - (unsigned long long)value : (unsigned long long)value;
    /* Digits of 15 bits, the lowest first, as many as it takes. All five are written (there is room): no branches. */
    uint32_t digits = 1 + (rest >> 15 != 0) + (rest >> 30 != 0) + (rest >> 45 != 0) + (rest >> 60 != 0);
    put_head(w, 'l' | FLAG_REF, value < 0 ? 0U - digits : digits);
    unsigned char all[10];
    for (int n = 0; n < 5; n++) {
        unsigned bits = (unsigned)(rest >> 15 * n) & 0x7fff;
        all[2 * n] = (unsigned char)bits;
        all[2 * n + 1] = (unsigned char)(bits >> 8);
    }
    char *at = w->at;
    memcpy(at, all, sizeof(all));
    w->at = at + 2 * (size_t)digits;
    return 0;
}

static int
put_float(Writer *w, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_head(w, 'g', (uint32_t)bits);
    bits >>= 32;
    unsigned char rest[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                             (unsigned char)(bits >> 24)};
    char *at = w->at;
    memcpy(at, rest, sizeof(rest));
    w->at = at + sizeof(rest);
    return 0;
}

static int
put_object(Writer *w, PyObject *object, int depth)
{
    /* Enough for whatever has a fixed size, and for the head of the rest. */
    if (reserve(w, 32) < 0) {
        return -1;
    }
    if (object == Py_None) {
        put_byte(w, 'N');
        return 0;
    }
    if (PyUnicode_CheckExact(object)) {
        return put_text(w, object);
    }
    if (PyLong_CheckExact(object)) {
        return put_int(w, object);
    }
    if (PyFloat_CheckExact(object)) {
        return put_float(w, PyFloat_AS_DOUBLE(object));
    }
    if (PyBool_Check(object)) {
        put_byte(w, object == Py_True ? 'T' : 'F');
        return 0;
    }
    if (PyBytes_CheckExact(object)) {
        return put_bytes(w, 's', PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
    }
    if (depth < MAX_DEPTH && PyDict_CheckExact(object)) {
        PyObject *key, *value;
        Py_ssize_t position = 0;
        put_byte(w, '{');
        while (PyDict_Next(object, &position, &key, &value)) {
            if (put_object(w, key, depth + 1) < 0 || put_object(w, value, depth + 1) < 0) {
                return -1;
            }
        }
        if (reserve(w, 1) < 0) {
            return -1;
        }
        put_byte(w, '0');
        return 0;
    }
    if (depth < MAX_DEPTH && (PyList_CheckExact(object) || PyTuple_CheckExact(object))) {
        Py_ssize_t size = PySequence_Fast_GET_SIZE(object);
        if (size <= INT32_MAX) {
            put_head(w, PyList_CheckExact(object) ? '[' : '(', (uint32_t)size);
            for (Py_ssize_t n = 0; n < size; n++) {
                if (put_object(w, PySequence_Fast_GET_ITEM(object, n), depth + 1) < 0) {
                    return -1;
                }
            }
            return 0;
        }
    }
    PyErr_SetString(PyExc_ValueError, "unmarshallable object");
    return -1;
}

PyObject *
dumps(PyObject *Py_UNUSED(module), PyObject *object)
{
    Writer w;
    memset(w.seen, 0, sizeof(w.seen));
    w.references = 0;
    w.begin = w.at = w.first;
    w.end = w.first + FIRST_BYTES;
    PyObject *packed = NULL;
    if (put_object(&w, object, 0) == 0) {
        packed = PyBytes_FromStringAndSize(w.begin, w.at - w.begin);
    }
    if (w.begin != w.first) {
        PyMem_Free(w.begin);
    }
    return packed;
}
