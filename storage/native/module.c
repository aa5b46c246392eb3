/* The module tailsight_storage._otlp: what OTLP bytes hold, and spans as columns. See tailsight_storage/decoder.py.
 *
 * Both functions read bytes that strangers sent. Where a request is not written as everybody writes it, they do not judge:
 * scan() returns None, columns() raises ValueError, and the careful way decides. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "columns.h"
#include "match.h"
#include "number.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ClickHouse's formats are little-endian"
#endif

enum {
    RESOURCE_SPANS = 1,
    FIRST_OF_OURS = 1000, /* what the journal adds has this number and the next */
    RECEIVED_UNIX_NANO = 1000,
    ALONE_BYTES = 65536, /* beyond this, others may run meanwhile */
    BLOCK_BYTES = 128 * 1024 * 1024,
    NUMBERED_WEIGHT = 8, /* as so many spans: what a numbered scope says is a row in text (checks.py has it too) */
};

/* --- scan --- */

typedef struct {
    uint64_t spans, unfolded_bytes;
    uint64_t rejected[REASONS];
    bool is_report;
    unsigned numbered;
    Slice numbered_scope;
} Scan;

static bool
scan_scope_spans(Slice message, uint64_t resource_bytes, uint64_t received_ns, Scan *out)
{
    Fields f = {.left = message};
    Scope scope = {.is_numbered = false};
    uint64_t scope_bytes = 0, spans = 0;
    while (next_field(&f)) {
        if (f.number == 1) {
            if (!is_single(&f, BYTES) || !read_scope(f.bytes, &scope)) {
                return false;
            }
            scope_bytes = length_of(f.bytes);
        } else if (f.number == 2) {
            Span span;
            if (f.wire != BYTES || !read_span(f.bytes, &span, true)) {
                return false;
            }
            spans++;
            out->rejected[reason_of(&span, received_ns)]++;
        } else if (f.number == 3 && !(is_single(&f, BYTES) && is_utf8(f.bytes))) {
            return false;
        }
    }
    out->spans += spans;
    out->unfolded_bytes += (spans + (scope.is_numbered ? NUMBERED_WEIGHT : 0)) * (resource_bytes + scope_bytes);
    if (scope.is_numbered) {
        out->numbered++;
        out->numbered_scope = scope.message;
        out->is_report |= spans == 0;
    }
    return !f.is_wrong;
}

static bool
scan_resource_spans(Slice message, uint64_t received_ns, Scan *out)
{
    Fields f = {.left = message};
    uint64_t resource_bytes = 0;
    while (next_field(&f)) {
        if (f.number == 1) {
            if (!is_single(&f, BYTES) || !check_resource(f.bytes)) {
                return false;
            }
            resource_bytes = length_of(f.bytes);
        } else if (f.number == 2) {
            if (f.wire != BYTES || !scan_scope_spans(f.bytes, resource_bytes, received_ns, out)) {
                return false;
            }
        } else if (f.number == 3 && !(is_single(&f, BYTES) && is_utf8(f.bytes))) {
            return false;
        }
    }
    return !f.is_wrong;
}

static bool
scan_request(Slice message, uint64_t received_ns, Scan *out)
{
    Fields f = {.left = message};
    while (next_field(&f)) {
        if (f.number >= FIRST_OF_OURS) {
            return false;
        }
        if (f.number == RESOURCE_SPANS && !(f.wire == BYTES && scan_resource_spans(f.bytes, received_ns, out))) {
            return false;
        }
    }
    return !f.is_wrong;
}

static PyObject *
scan(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_buffer body;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "scan(body, received_ns)");
        return NULL;
    }
    unsigned long long received_ns = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &body, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Slice message = {body.buf, (const uint8_t *)body.buf + body.len};
    Scan found = {0};
    bool is_plain;
    if (body.len > ALONE_BYTES) {
        Py_BEGIN_ALLOW_THREADS
        is_plain = scan_request(message, received_ns, &found);
        Py_END_ALLOW_THREADS
    } else {
        is_plain = scan_request(message, received_ns, &found);
    }
    PyObject *answer = NULL;
    if (!is_plain) {
        answer = Py_NewRef(Py_None);
    } else {
        PyObject *rejected = PyTuple_New(REASONS - 1);
        for (int i = 1; rejected != NULL && i < REASONS; i++) {
            PyObject *number = PyLong_FromUnsignedLongLong(found.rejected[i]);
            if (number == NULL) {
                Py_CLEAR(rejected);
                break;
            }
            PyTuple_SET_ITEM(rejected, i - 1, number);
        }
        Slice scope = found.numbered_scope;
        if (rejected != NULL) {
            answer = Py_BuildValue("(KNKOIy#)", found.spans, rejected, found.unfolded_bytes,
                                   found.is_report ? Py_True : Py_False, found.numbered,
                                   scope.at ? (const char *)scope.at : "", (Py_ssize_t)length_of(scope));
        }
    }
    PyBuffer_Release(&body);
    return answer;
}

/* --- columns --- */

/* A numbered scope: what its sender says stands in these, and what came with it beside them. */
typedef struct {
    uint64_t received_ns, own_spans, own_rejected;
    Slice resource, scope;
    size_t totals; /* of the resource, in `totals` */
} Numbered;

typedef struct {
    uint64_t spans, rejected;
} Totals;

typedef struct {
    Columns columns;
    Buffer out;
    Buffer numbered, totals;
    uint64_t rows;
    size_t max_bytes, numbered_bytes;
    bool is_too_large;
} Decoding;

/* Is there no more to be done, because it is too much? */
static bool
has_ended(Decoding *d)
{
    d->is_too_large |= d->columns.estimated_bytes + d->out.used + d->numbered_bytes > d->max_bytes;
    return d->is_too_large || is_out_of_memory(&d->columns) || d->out.is_full || d->numbered.is_full || d->totals.is_full;
}

static bool
decode_scope_spans(Decoding *d, Slice message, Slice resource, uint64_t received_ns)
{
    Fields f = {.left = message};
    Scope scope = {.message = {message.end, message.end}, .name = {message.end, message.end}, .version = {message.end, message.end}};
    bool is_set = false;
    Totals own = {0, 0};
    while (next_field(&f)) {
        if (f.number == 1 && !(is_single(&f, BYTES) && read_scope(f.bytes, &scope))) {
            return false;
        }
        if (f.number != 2) {
            continue;
        }
        if (!is_set && !set_context(&d->columns, resource, &scope)) {
            return false;
        }
        if (!is_set && has_ended(d)) {
            return true;
        }
        is_set = true;
        Span span;
        if (f.wire != BYTES || !read_span(f.bytes, &span, false)) {
            return false;
        }
        enum Reason reason = reason_of(&span, received_ns);
        add_span(&d->columns, &span, received_ns, reason);
        own.spans++;
        own.rejected += reason != STORED;
        if (has_ended(d)) {
            return true;
        }
    }
    Totals *totals = (Totals *)(void *)(d->totals.data + d->totals.used) - 1;
    totals->spans += own.spans;
    totals->rejected += own.rejected;
    if (scope.is_numbered) {
        Numbered entry = {received_ns, own.spans, own.rejected, resource, scope.message,
                          d->totals.used / sizeof(Totals) - 1};
        put(&d->numbered, &entry, sizeof entry);
        d->numbered_bytes += NUMBERED_WEIGHT * (length_of(resource) + length_of(scope.message)) + sizeof entry;
    }
    return !f.is_wrong;
}

static bool
decode_resource_spans(Decoding *d, Slice message, uint64_t received_ns)
{
    Fields f = {.left = message};
    Slice resource = {message.end, message.end};
    Totals none = {0, 0};
    put(&d->totals, &none, sizeof none);
    while (!has_ended(d) && next_field(&f)) {
        if (f.number == 1) {
            if (!is_single(&f, BYTES)) {
                return false;
            }
            resource = f.bytes;
        } else if (f.number == 2) {
            if (f.wire != BYTES || !decode_scope_spans(d, f.bytes, resource, received_ns)) {
                return false;
            }
        }
    }
    return !f.is_wrong;
}

static bool
finish_block(Decoding *d)
{
    d->rows += spans_waiting(&d->columns);
    return spans_waiting(&d->columns) == 0 || put_block(&d->out, &d->columns);
}

static bool
decode_record(Decoding *d, Slice record, uint64_t now_ns)
{
    uint64_t received_ns = now_ns;
    Fields f = {.left = record};
    while (next_field(&f)) { /* the time of the arrival stands at the end */
        if (f.number == RECEIVED_UNIX_NANO) {
            if (!is_single(&f, FIXED64)) {
                return false;
            }
            received_ns = f.value ? f.value : now_ns;
        }
    }
    if (f.is_wrong) {
        return false;
    }
    f = (Fields){.left = record};
    while (next_field(&f) && f.number <= RESOURCE_SPANS) {
        if (f.number == RESOURCE_SPANS && !(f.wire == BYTES && decode_resource_spans(d, f.bytes, received_ns))) {
            return false;
        }
        if (has_ended(d)) {
            return true;
        }
    }
    return d->columns.estimated_bytes <= BLOCK_BYTES || finish_block(d);
}

static bool
decode_segment(Decoding *d, Slice segment, uint64_t now_ns)
{
    start_columns(&d->columns);
    while (segment.at < segment.end) {
        Slice record;
        if (!read_bytes(&segment, &record) || !decode_record(d, record, now_ns)) {
            return false;
        }
        if (has_ended(d)) {
            return true;
        }
    }
    return finish_block(d);
}

static PyObject *
list_of_numbered(const Decoding *d)
{
    size_t count = d->numbered.used / sizeof(Numbered);
    const Numbered *entries = (const Numbered *)(const void *)d->numbered.data;
    const Totals *totals = (const Totals *)(const void *)d->totals.data;
    PyObject *list = PyList_New((Py_ssize_t)count), *resource = NULL;
    for (size_t i = 0; list != NULL && i < count; i++) {
        const Numbered *e = &entries[i];
        if (i == 0 || e->totals != entries[i - 1].totals) { /* those of one resource share its bytes */
            Py_XSETREF(resource, PyBytes_FromStringAndSize((const char *)e->resource.at, (Py_ssize_t)length_of(e->resource)));
        }
        PyObject *item = resource == NULL ? NULL
                                          : Py_BuildValue("(KOy#KKKK)", e->received_ns, resource, (const char *)e->scope.at,
                                                          (Py_ssize_t)length_of(e->scope), e->own_spans, e->own_rejected,
                                                          totals[e->totals].spans, totals[e->totals].rejected);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    Py_XDECREF(resource);
    return list;
}

static PyObject *
columns(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_buffer segment;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "columns(segment, now_ns, max_bytes)");
        return NULL;
    }
    unsigned long long now_ns = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    size_t max_bytes = PyLong_AsSize_t(args[2]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &segment, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Decoding *d = calloc(1, sizeof *d);
    if (d == NULL) {
        PyBuffer_Release(&segment);
        return PyErr_NoMemory();
    }
    d->max_bytes = max_bytes;
    bool is_plain;
    Py_BEGIN_ALLOW_THREADS
    Slice all = {segment.buf, (const uint8_t *)segment.buf + segment.len};
    is_plain = decode_segment(d, all, now_ns);
    Py_END_ALLOW_THREADS
    bool is_full = is_out_of_memory(&d->columns) || d->out.is_full || d->numbered.is_full || d->totals.is_full;
    drop_columns(&d->columns); /* the block is copied once more, and they are as large */
    PyObject *answer = NULL;
    if (!is_plain) {
        PyErr_SetString(PyExc_ValueError, "not written as everybody writes it");
    } else if (d->is_too_large) {
        PyErr_Format(PyExc_OverflowError, "more than %zu bytes as columns", max_bytes);
    } else if (is_full) {
        PyErr_NoMemory();
    } else {
        PyObject *numbered = list_of_numbered(d);
        if (numbered != NULL) {
            answer = Py_BuildValue("(y#KN)", d->out.data ? (const char *)d->out.data : "", (Py_ssize_t)d->out.used, d->rows,
                                   numbered);
        }
    }
    PyBuffer_Release(&segment);
    drop(&d->out);
    drop(&d->numbered);
    drop(&d->totals);
    free(d);
    return answer;
}

/* --- match --- */

static PyObject *
match(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_buffer body, rules;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "match(body, rules)");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &body, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(args[1], &rules, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&body);
        return NULL;
    }
    Slice message = {body.buf, (const uint8_t *)body.buf + body.len};
    Slice table = {rules.buf, (const uint8_t *)rules.buf + rules.len};
    Buffer found = {0};
    enum Matched result;
    Py_BEGIN_ALLOW_THREADS
    result = match_request(message, table, &found);
    Py_END_ALLOW_THREADS
    PyObject *answer = NULL;
    if (result == RULES_WRONG) {
        PyErr_SetString(PyExc_ValueError, "the rules are not written as source_rules.py writes them");
    } else if (found.is_full) {
        PyErr_NoMemory();
    } else if (result == ODD) {
        answer = Py_NewRef(Py_None);
    } else {
        answer = PyBytes_FromStringAndSize((const char *)found.data, (Py_ssize_t)found.used);
    }
    drop(&found);
    PyBuffer_Release(&rules);
    PyBuffer_Release(&body);
    return answer;
}

/* --- the module --- */

static PyObject *
set_up(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_buffer powers;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "set_up(powers_of_10, seed)");
        return NULL;
    }
    unsigned long long seed = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &powers, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    bool is_right = powers.len == sizeof powers_of_10;
    if (is_right) {
        memcpy(powers_of_10, powers.buf, sizeof powers_of_10);
        dictionary_seed = seed;
    }
    PyBuffer_Release(&powers);
    if (!is_right) {
        PyErr_Format(PyExc_ValueError, "powers_of_10 must have %zu bytes", sizeof powers_of_10);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
double_text(PyObject *module, PyObject *number)
{
    (void)module;
    double value = PyFloat_AsDouble(number);
    if (PyErr_Occurred()) {
        return NULL;
    }
    uint64_t bits;
    char text[DOUBLE_CHARS];
    memcpy(&bits, &value, sizeof bits);
    return PyUnicode_FromStringAndSize(text, (Py_ssize_t)write_double(text, bits));
}

static PyMethodDef functions[] = {
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, NULL},
    {"match", (PyCFunction)(void (*)(void))match, METH_FASTCALL, NULL},
    {"columns", (PyCFunction)(void (*)(void))columns, METH_FASTCALL, NULL},
    {"set_up", (PyCFunction)(void (*)(void))set_up, METH_FASTCALL, NULL},
    {"double_text", double_text, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "tailsight_storage._otlp",
    .m_size = -1,
    .m_methods = functions,
};

#define AS_TEXT_(x) #x
#define AS_TEXT(x) AS_TEXT_(x)

PyMODINIT_FUNC
PyInit__otlp(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddStringConstant(module, "BUILD", AS_TEXT(TAILSIGHT_BUILD)) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
