/* The hot path in C: the class Core of sdk/tailsight/_core.py, and the plain case of tailsight.stage().
 *
 * Read PureCore there first. This says the same, statement by statement, for the plain case; whatever is not plain is
 * left to the same methods of Span. The rules that hold everywhere below:
 *
 * - Nothing of ours raises into the host: each entry point ends in failed(), which does what PureCore's `except` does.
 * - The GIL protects. Between reading Trace.records and extending it no Python code may run, garbage collection
 *   included, so everything that allocates a container is done before.
 * - Whatever calls Python may change or drop any field of a span. What is used after a call is held by a reference.
 */

#include "pack.h"

#include <structmember.h>
#include <time.h>

#if PY_VERSION_HEX < 0x030B0000
#error "tailsight's native hot path needs Python 3.11 or newer"
#endif
#ifdef Py_GIL_DISABLED
#error "tailsight's native hot path relies on the GIL: this Python has none, and uses the pure one"
#endif
#ifndef TAILSIGHT_BUILD
#error "TAILSIGHT_BUILD is missing: hatch_build.py sets it"
#endif
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* --- what a span is made of: PureCore.__slots__, visible to Python under the same names --------------------------- */

enum { FRESH = 0, ENTERED = 2, SHARED = 3 }; /* _core.py's */

typedef struct {
    PyObject_HEAD PyObject *attributes;
    PyObject *details;
    PyObject *id;
    PyObject *name;
    PyObject *parent_id;
    PyObject *prepared;
    PyObject *reuse_of;
    PyObject *span_context;
    PyObject *stage;
    PyObject *start;
    Py_ssize_t state;
    PyObject *token;
    PyObject *trace;
} Core;

static PyMemberDef core_members[] = {
    {"_attributes", T_OBJECT_EX, offsetof(Core, attributes), 0, NULL},
    {"_details", T_OBJECT_EX, offsetof(Core, details), 0, NULL},
    {"_id", T_OBJECT_EX, offsetof(Core, id), 0, NULL},
    {"_name", T_OBJECT_EX, offsetof(Core, name), 0, NULL},
    {"_parent_id", T_OBJECT_EX, offsetof(Core, parent_id), 0, NULL},
    {"_prepared", T_OBJECT_EX, offsetof(Core, prepared), 0, NULL},
    {"_reuse_of", T_OBJECT_EX, offsetof(Core, reuse_of), 0, NULL},
    {"_span_context", T_OBJECT_EX, offsetof(Core, span_context), 0, NULL},
    {"_stage", T_OBJECT_EX, offsetof(Core, stage), 0, NULL},
    {"_start", T_OBJECT_EX, offsetof(Core, start), 0, NULL},
    {"_state", T_PYSSIZET, offsetof(Core, state), 0, NULL},
    {"_token", T_OBJECT_EX, offsetof(Core, token), 0, NULL},
    {"_trace", T_OBJECT_EX, offsetof(Core, trace), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* --- what bind() was given ---------------------------------------------------------------------------------------- */

/* One copy in a process: a second bind() is refused, and a second copy of tailsight then uses the pure class. */
static struct {
    int done;
    /* Trace is a Python class with slots. They are read where the class says that they are. */
    PyTypeObject *trace_type;
    Py_ssize_t recorder, records, new_span_id, now, entry_id, ended, max_attributes, max_text;
    Py_ssize_t trace_id, flags, state, anchor_ns, entry_kind, entry_is_remote, decision;
    PyTypeObject *recorder_type; /* Recorder, another one */
    Py_ssize_t its_enabled, its_sampler, its_push, its_now, its_new_span_id, its_new_trace_id;
    PyObject *default_state; /* OpenTelemetry's empty TraceState */
    PyObject *current;
    Py_ssize_t current_recorder;
    Py_ssize_t waiting_values;
    PyObject *variable; /* OpenTelemetry's ContextVar; NULL: another runtime context, which these three reach */
    PyObject *get_current, *attach, *reset;
    PyTypeObject *context_type;
    PyObject *span_key;
    PyObject *with_span;
    PyObject *caught;
    PyObject *clock;     /* the callable that is clock_gettime(CLOCK_MONOTONIC), or NULL */
    PyObject *get_ident; /* NULL: the thread's own number */
    /* stage() and request() */
    PyTypeObject *span_type;
    PyObject *pure_stage, *pure_request;
} bound;

/* Names of methods and the like, interned. */
static struct {
    PyObject *enter_specially, *enter_first, *exit_again, *close, *was_recorded, *leave, *set_cleaned, *pack_and_pass_on;
    PyObject *get, *old_value, *name, *nothing;
    PyObject *entering, *leaving, *setting; /* what caught() says */
    PyObject *zero, *one;
} names;

static inline int
is_none(PyObject *value)
{
    return value == NULL || value == Py_None;
}

/* The value of a slot of a Python object, borrowed; NULL: never set. */
static inline PyObject *
slot(PyObject *object, Py_ssize_t offset)
{
    return *(PyObject **)((char *)object + offset);
}

static inline int
is_plain_trace(PyObject *trace)
{
    return trace != NULL && Py_TYPE(trace) == bound.trace_type;
}

static inline void
put(PyObject **field, PyObject *value) /* steals value */
{
    PyObject *old = *field;
    *field = value;
    Py_XDECREF(old);
}

static inline void
put_none(PyObject **field)
{
    put(field, Py_NewRef(Py_None));
}

/* --- errors ------------------------------------------------------------------------------------------------------- */

/* Take the pending exception, with its traceback. */
static PyObject *
take_error(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

static void
give_error_back(PyObject *error) /* steals error */
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

/* PureCore's `except Exception as error`: 0 if the pending exception goes no further, -1 if it does: it is none of
 * ours, or caught() found that a signal handler of the host raised it. `before`: what to make current, or NULL. */
static int
failed(Core *self, PyObject *where, PyObject *before)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *error = take_error();
    PyObject *done = NULL;
    if (before != NULL) {
        done = PyObject_CallMethodOneArg((PyObject *)self, names.leave, before);
        if (done == NULL) {
            Py_DECREF(error);
            return -1;
        }
        Py_DECREF(done);
    }
    PyObject *arguments[] = {NULL, where, error};
    done = PyObject_Vectorcall(bound.caught, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(error);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    return 0;
}

/* --- OpenTelemetry's context -------------------------------------------------------------------------------------- */

static inline PyObject *
get_current(void)
{
    if (bound.variable != NULL) {
        PyObject *value = NULL;
        if (PyContextVar_Get(bound.variable, NULL, &value) < 0) {
            return NULL;
        }
        if (value != NULL) {
            return value;
        }
    }
    return PyObject_CallNoArgs(bound.get_current); /* says what is missing, if something is */
}

static inline PyObject *
current_span(PyObject *context)
{
    if (Py_TYPE(context) == bound.context_type) {
        PyObject *span = PyDict_GetItemWithError(context, bound.span_key);
        if (span == NULL) {
            if (PyErr_Occurred()) {
                return NULL;
            }
            span = Py_None;
        }
        return Py_NewRef(span);
    }
    return PyObject_CallMethodOneArg(context, names.get, bound.span_key);
}

static PyObject *no_arguments;

/* A Context like `before` in which `self` is the current span. */
static PyObject *
context_with(PyObject *before, Core *self)
{
    if (Py_TYPE(before) != bound.context_type) {
        PyObject *arguments[] = {NULL, before, (PyObject *)self};
        return PyObject_Vectorcall(bound.with_span, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    /* Context refuses to be changed by Python code. It is a dict with dict's own constructor, see bind(). */
    PyObject *context = PyDict_Type.tp_new(bound.context_type, no_arguments, NULL);
    if (context == NULL) {
        return NULL;
    }
    /* Nothing but the span key? A key of somebody else's must be kept. */
    if ((PyDict_GET_SIZE(before) != 1 && PyDict_Update(context, before) < 0)
        || PyDict_SetItem(context, bound.span_key, (PyObject *)self) < 0) {
        Py_DECREF(context);
        return NULL;
    }
    return context;
}

/* --- clock and thread --------------------------------------------------------------------------------------------- */

static inline PyObject *
read_clock(PyObject *now)
{
#ifdef CLOCK_MONOTONIC
    struct timespec time;
    if (now == bound.clock && clock_gettime(CLOCK_MONOTONIC, &time) == 0) {
        return PyLong_FromLongLong((long long)time.tv_sec * 1000000000LL + (long long)time.tv_nsec);
    }
#endif
    return PyObject_CallNoArgs(now);
}

static inline PyObject *
thread_number(void)
{
    if (bound.get_ident == NULL) {
        return PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    }
    return PyObject_CallNoArgs(bound.get_ident);
}

/* --- __enter__ ---------------------------------------------------------------------------------------------------- */

static inline PyObject **
place(PyObject *object, Py_ssize_t offset)
{
    return (PyObject **)((char *)object + offset);
}

/* Call what a slot of a Python object holds; the clock is read without a call where it can. */
static PyObject *
call_slot(PyObject *object, Py_ssize_t offset)
{
    PyObject *function = Py_XNewRef(slot(object, offset));
    if (function == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a slot was deleted");
        return NULL;
    }
    PyObject *value = read_clock(function);
    Py_DECREF(function);
    return value;
}

/* Become open, and current: what follows when trace, id and parent id are known. 0, or -1 with an exception. */
static int
open_span(Core *self, PyObject *before, PyObject *clock_owner, Py_ssize_t clock_offset)
{
    PyObject *value = PyDict_New();
    put_none(&self->details);
    put_none(&self->span_context);
    if (value == NULL) {
        return -1;
    }
    put(&self->attributes, value);
    /* Before it is current: whatever happens then, it can be closed. */
    value = call_slot(clock_owner, clock_offset);
    if (value == NULL) {
        return -1;
    }
    put(&self->start, value);
    PyObject *context = context_with(before, self);
    if (context == NULL) {
        return -1;
    }
    PyObject *token =
        bound.variable != NULL ? PyContextVar_Set(bound.variable, context) : PyObject_CallOneArg(bound.attach, context);
    Py_DECREF(context);
    if (token == NULL) {
        return -1;
    }
    put(&self->token, token);
    return 0;
}

/* PureCore.__enter__ from new_span_id() on: 0, or -1 with an exception. */
static int
enter_below(Core *self, PyObject *before, Core *parent, PyObject *trace)
{
    put(&self->trace, Py_NewRef(trace));
    PyObject *id = call_slot(trace, bound.new_span_id);
    if (id == NULL) {
        return -1;
    }
    put(&self->id, id);
    if (parent->id == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_id");
        return -1;
    }
    put(&self->parent_id, Py_NewRef(parent->id));
    return open_span(self, before, trace, bound.now);
}

/* Span._enter_first() and _begin_trace(), where nothing is above and nothing prepared: 0, or -1 with an exception. */
static int
enter_alone(Core *self, PyObject *before, PyObject *recorder)
{
    PyObject *id = call_slot(recorder, bound.its_new_trace_id);
    if (id == NULL) {
        return -1;
    }
    int known = PyObject_IsTrue(id);
    PyObject *arguments[] = {NULL, recorder, known ? id : names.one, names.one, bound.default_state}; /* one: SAMPLED */
    PyObject *trace = known < 0 ? NULL
                                : PyObject_Vectorcall((PyObject *)bound.trace_type, arguments + 1,
                                                      4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(id);
    if (trace == NULL) {
        return -1;
    }
    if (!is_plain_trace(trace)) {
        Py_DECREF(trace);
        PyErr_SetString(PyExc_TypeError, "Trace() made something else");
        return -1;
    }
    id = call_slot(recorder, bound.its_new_span_id);
    if (id == NULL) {
        Py_DECREF(trace);
        return -1;
    }
    put(place(trace, bound.entry_id), Py_NewRef(id));
    put(&self->id, id);
    put(&self->parent_id, Py_NewRef(names.zero));
    put(&self->trace, trace);
    return open_span(self, before, recorder, bound.its_now);
}

static PyObject *
core_enter(Core *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *before = NULL, *parent = NULL, *result = NULL;
    /* Nothing between these two lines: only one thread may be the first. */
    if (self->state != FRESH) {
        result = PyObject_CallMethodNoArgs((PyObject *)self, names.enter_specially);
        goto end;
    }
    self->state = ENTERED;
    put_none(&self->token);
    before = get_current();
    if (before == NULL) {
        goto end;
    }
    parent = current_span(before);
    if (parent == NULL) {
        goto end;
    }
    if (Py_TYPE(parent) == Py_TYPE(self) && is_plain_trace(((Core *)parent)->trace)) {
        PyObject *trace = ((Core *)parent)->trace;
        PyObject *recorder = slot(trace, bound.recorder);
        if (recorder != NULL && recorder == slot(bound.current, bound.current_recorder)
            && slot(trace, bound.new_span_id) != NULL) {
            if (is_none(slot(trace, bound.records))) {
                self->state = FRESH;
                result = Py_NewRef((PyObject *)self);
                goto end;
            }
            Py_INCREF(trace);
            int status = enter_below(self, before, (Core *)parent, trace);
            Py_DECREF(trace);
            if (status == 0) {
                result = Py_NewRef((PyObject *)self);
            }
            goto end;
        }
    }
    PyObject *recorder = slot(bound.current, bound.current_recorder);
    if (parent == Py_None && is_none(self->prepared) && recorder != NULL && Py_TYPE(recorder) == bound.recorder_type
        && slot(recorder, bound.its_enabled) == Py_True && Py_TYPE(before) == bound.context_type
        && PyDict_GET_SIZE(before) == 0) {
        Py_INCREF(recorder);
        int status = enter_alone(self, before, recorder);
        Py_DECREF(recorder);
        if (status == 0) {
            result = Py_NewRef((PyObject *)self);
        }
        goto end;
    }
    PyObject *arguments[] = {(PyObject *)self, before, parent};
    result = PyObject_VectorcallMethod(names.enter_first, arguments, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
end:
    if (result == NULL && failed(self, names.entering, before) == 0) {
        result = Py_NewRef((PyObject *)self);
    }
    Py_XDECREF(parent);
    Py_XDECREF(before);
    return result;
}

/* --- __exit__ ----------------------------------------------------------------------------------------------------- */

enum { FIELDS = 9, SPAN_ID = 2 }; /* _record.FIELDS, and a place among them */

static PyObject *
record_of(Core *self, PyObject *end, PyObject *attributes)
{
    PyObject *thread = thread_number();
    if (thread == NULL) {
        return NULL;
    }
    PyObject *record = PyTuple_New(FIELDS);
    if (record == NULL) {
        Py_DECREF(thread);
        return NULL;
    }
    PyObject *values[FIELDS] = {self->name, self->stage, self->id,   self->parent_id, self->start,
                                end,        thread,      attributes, Py_None};
    for (Py_ssize_t n = 0; n < FIELDS; n++) {
        if (values[n] == NULL) {
            PyErr_SetString(PyExc_AttributeError, "a span without its slots");
            Py_CLEAR(record);
            break;
        }
        PyTuple_SET_ITEM(record, n, Py_NewRef(values[n]));
    }
    Py_DECREF(thread);
    return record;
}

/* Trace.hand_on(), where nothing is decided about the trace: 1, 0 if the Python one must do it, -1 with an exception.
 *
 * There the list is exchanged before it is packed. Here packing runs no Python code, so it is exchanged when that has
 * succeeded; if it fails, nothing has changed, and the Python one finds out which span spoils it. */
static int
hand_on_plainly(PyObject *trace)
{
    PyObject *recorder = slot(trace, bound.recorder);
    if (recorder == NULL || Py_TYPE(recorder) != bound.recorder_type || slot(recorder, bound.its_sampler) != Py_None
        || slot(recorder, bound.its_push) == NULL || slot(trace, bound.state) != bound.default_state) {
        return 0;
    }
    PyObject *parts[] = {slot(trace, bound.trace_id), slot(trace, bound.flags),      slot(trace, bound.anchor_ns),
                         slot(trace, bound.entry_id), slot(trace, bound.entry_kind), slot(trace, bound.entry_is_remote),
                         slot(trace, bound.decision)};
    for (size_t n = 0; n < Py_ARRAY_LENGTH(parts); n++) {
        if (parts[n] == NULL) {
            return 0;
        }
    }
    for (size_t n = 0; n < Py_ARRAY_LENGTH(parts); n++) {
        Py_INCREF(parts[n]); /* making a tuple may collect garbage, and so run a finalizer */
    }
    int status = -1;
    PyObject *push = Py_NewRef(slot(recorder, bound.its_push)), *packed = NULL, *all = NULL, *fresh = NULL;
    PyObject *entry = PyTuple_Pack(3, parts[3], parts[4], parts[5]);
    if (entry == NULL) {
        goto end;
    }
    all =
        PyTuple_Pack(7, parts[0], names.nothing, parts[1], parts[2], entry, parts[6], Py_None); /* as _record.dump() */
    fresh = PyList_New(0);
    if (all == NULL || fresh == NULL) {
        goto end;
    }
    /* From here on nothing is allocated that is collected, until the list is exchanged. */
    PyObject *records = slot(trace, bound.records);
    status = 0;
    if (records == NULL || !PyList_CheckExact(records)) {
        goto end;
    }
    Py_ssize_t spans = PyList_GET_SIZE(records) / FIELDS;
    if (spans == 0) {
        status = 1;
        goto end;
    }
    PyObject *placeholder = PyTuple_GET_ITEM(all, 6);
    PyTuple_SET_ITEM(all, 6, Py_NewRef(records));
    Py_DECREF(placeholder);
    put(place(trace, bound.records), Py_NewRef(fresh)); /* before: packing may run Python code, by way of an audit hook */
    status = -1;
    packed = dumps(NULL, all);
    if (packed == NULL) { /* Python packs what can be packed; then the error goes its way, if it is not that */
        PyObject *kind, *error, *traceback;
        PyErr_Fetch(&kind, &error, &traceback);
        PyObject *done = PyObject_CallMethodOneArg(trace, names.pack_and_pass_on, PyTuple_GET_ITEM(all, 6));
        Py_XDECREF(done);
        if (done == NULL || PyErr_GivenExceptionMatches(kind, PyExc_ValueError)) {
            Py_XDECREF(kind);
            Py_XDECREF(error);
            Py_XDECREF(traceback);
            status = done == NULL ? -1 : 1;
        } else {
            PyErr_Restore(kind, error, traceback);
        }
        goto end;
    }
    PyObject *count = PyLong_FromSsize_t(spans);
    if (count != NULL) {
        PyObject *arguments[] = {NULL, packed, count};
        PyObject *done = PyObject_Vectorcall(push, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(count);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 1;
    }
end:
    Py_XDECREF(packed);
    Py_XDECREF(fresh);
    Py_XDECREF(all);
    Py_XDECREF(entry);
    Py_DECREF(push);
    for (size_t n = 0; n < Py_ARRAY_LENGTH(parts); n++) {
        Py_DECREF(parts[n]);
    }
    return status;
}

/* What Span._close() does, for a stage that just ends, as most do: 0, or -1 with an exception. */
static int
close_plainly(Core *self, PyObject *trace, PyObject *attributes)
{
    int status = -1;
    PyObject *record = NULL, *id = NULL;
    PyObject *now = Py_NewRef(slot(trace, bound.now));
    PyObject *end = read_clock(now);
    Py_DECREF(now);
    if (end == NULL) {
        return -1;
    }
    put_none(&self->attributes);
    record = record_of(self, end, attributes);
    if (record == NULL) {
        goto end;
    }
    id = Py_NewRef(PyTuple_GET_ITEM(record, SPAN_ID));
    /* From here to the end of the extension no Python code runs, see Trace.hand_on(). */
    PyObject *records = slot(trace, bound.records);
    if (is_none(records)) { /* the sampler dropped the request in the meantime */
        status = 0;
        goto end;
    }
    if (!PyList_CheckExact(records)) {
        PyErr_SetString(PyExc_TypeError, "Trace.records is no list");
        goto end;
    }
    Py_ssize_t size = PyList_GET_SIZE(records);
    if (PyList_SetSlice(records, size, size, record) < 0) {
        goto end;
    }
    int full = size + FIELDS >= bound.waiting_values;
    PyObject *entry_id = Py_XNewRef(slot(trace, bound.entry_id));
    int is_entry = entry_id == NULL ? 0 : PyObject_RichCompareBool(entry_id, id, Py_EQ);
    Py_XDECREF(entry_id);
    if (is_entry < 0) {
        goto end;
    }
    if (is_entry || full || slot(trace, bound.ended) != Py_False) { /* Span._was_recorded() */
        if (is_entry) {
            put(place(trace, bound.ended), Py_NewRef(Py_True));
        }
        int done = hand_on_plainly(trace);
        if (done < 0) {
            goto end;
        }
        if (!done) {
            PyObject *arguments[] = {(PyObject *)self, trace, end, attributes};
            PyObject *result =
                PyObject_VectorcallMethod(names.was_recorded, arguments, 4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
            if (result == NULL) {
                goto end;
            }
            Py_DECREF(result);
        }
    }
    status = 0;
end:
    Py_XDECREF(id);
    Py_XDECREF(record);
    Py_DECREF(end);
    return status;
}

static int
close_span(Core *self, PyObject *exc)
{
    PyObject *attributes = self->attributes, *trace = self->trace;
    if (exc != Py_None || is_none(attributes) || !is_none(self->details) || !is_plain_trace(trace)
        || slot(trace, bound.now) == NULL) {
        PyObject *done = PyObject_CallMethodOneArg((PyObject *)self, names.close, exc);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    Py_INCREF(attributes);
    Py_INCREF(trace);
    int status = close_plainly(self, trace, attributes);
    Py_DECREF(trace);
    Py_DECREF(attributes);
    return status;
}

/* 0, or -1 with an exception. That the token is another context's is none, see _otel.detach(). */
static int
reset(PyObject *token)
{
    int status;
    if (bound.variable != NULL) {
        status = PyContextVar_Reset(bound.variable, token);
    } else {
        PyObject *done = PyObject_CallOneArg(bound.reset, token);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 0;
    }
    if (status < 0 && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        status = 0;
    }
    return status;
}

static PyObject *
core_exit(Core *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "__exit__() takes 3 positional arguments but %zd were given", count);
    }
    PyObject *exc = arguments[1];
    if (self->state != ENTERED) { /* of a fresh one there is nothing to leave */
        if (self->state == SHARED) {
            PyObject *done = PyObject_CallMethodOneArg((PyObject *)self, names.exit_again, exc);
            if (done == NULL && failed(self, names.leaving, NULL) < 0) {
                return NULL;
            }
            Py_XDECREF(done);
        }
        Py_RETURN_NONE;
    }
    PyObject *token = self->token;
    if (is_none(token)) {
        Py_RETURN_NONE;
    }
    self->token = Py_NewRef(Py_None); /* its reference is ours now */
    PyObject *error = close_span(self, exc) < 0 ? take_error() : NULL;
    /* Whatever happens, the application must not go on inside our span. */
    if (reset(token) < 0) {
        if (error != NULL) {
            PyObject *second = take_error();
            PyException_SetContext(second, error); /* steals error */
            error = second;
        } else {
            error = take_error();
        }
    }
    int status = 0;
    if (error != NULL) {
        PyObject *before = PyObject_GetAttr(token, names.old_value);
        if (before == NULL) {
            PyErr_Clear();
            before = Py_NewRef(Py_None);
        }
        give_error_back(error);
        status = failed(self, names.leaving, before);
        Py_DECREF(before);
    }
    Py_DECREF(token);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- set() -------------------------------------------------------------------------------------------------------- */

/* A limit as a C integer; -1: not one, so that nothing is within it and _set_cleaned() has to decide. */
static inline Py_ssize_t
limit(PyObject *value)
{
    if (value == NULL || !PyLong_CheckExact(value)) {
        return -1;
    }
    Py_ssize_t number = PyLong_AsSsize_t(value);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return number;
}

static inline int
needs_no_cleaning(PyObject *value, PyObject *trace)
{
    return PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value)
           || (PyUnicode_CheckExact(value) && IS_READY(value)
               && PyUnicode_GET_LENGTH(value) <= limit(slot(trace, bound.max_text)));
}

static PyObject *
core_set(Core *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    PyObject *key, *value;
    if (count == 2 && keywords == NULL) {
        key = arguments[0];
        value = arguments[1];
    } else { /* by keyword, or wrong */
        static char *parameters[] = {"key", "value", NULL};
        PyObject *positional = PyTuple_New(count), *named = PyDict_New();
        int parsed = positional != NULL && named != NULL;
        for (Py_ssize_t n = 0; parsed && n < count; n++) {
            PyTuple_SET_ITEM(positional, n, Py_NewRef(arguments[n]));
        }
        for (Py_ssize_t n = 0; parsed && keywords != NULL && n < PyTuple_GET_SIZE(keywords); n++) {
            parsed = PyDict_SetItem(named, PyTuple_GET_ITEM(keywords, n), arguments[count + n]) == 0;
        }
        parsed = parsed && PyArg_ParseTupleAndKeywords(positional, named, "OO:set", parameters, &key, &value);
        Py_XDECREF(positional); /* the caller's array goes on holding what was in it */
        Py_XDECREF(named);
        if (!parsed) {
            return NULL;
        }
    }
    PyObject *attributes = self->attributes, *trace = self->trace;
    if (is_none(attributes)) {
        Py_RETURN_NONE;
    }
    int status;
    Py_INCREF(attributes);
    if (PyUnicode_CheckExact(key) && PyDict_CheckExact(attributes) && is_plain_trace(trace)
        && needs_no_cleaning(value, trace) && PyDict_GET_SIZE(attributes) < limit(slot(trace, bound.max_attributes))) {
        status = PyDict_SetItem(attributes, key, value);
    } else {
        PyObject *all[] = {(PyObject *)self, key, value, attributes};
        PyObject *done = PyObject_VectorcallMethod(names.set_cleaned, all, 4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_XDECREF(done);
        status = done == NULL ? -1 : 0;
    }
    Py_DECREF(attributes);
    if (status < 0 && failed(self, names.setting, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- the type ----------------------------------------------------------------------------------------------------- */

static PyObject *
core_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(arguments) || (keywords != NULL && PyDict_GET_SIZE(keywords))) {
        return PyErr_Format(PyExc_TypeError, "%s() takes no arguments", type->tp_name);
    }
    return type->tp_alloc(type, 0);
}

static int
core_traverse(Core *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->attributes);
    Py_VISIT(self->details);
    Py_VISIT(self->id);
    Py_VISIT(self->name);
    Py_VISIT(self->parent_id);
    Py_VISIT(self->prepared);
    Py_VISIT(self->reuse_of);
    Py_VISIT(self->span_context);
    Py_VISIT(self->stage);
    Py_VISIT(self->start);
    Py_VISIT(self->token);
    Py_VISIT(self->trace);
    return 0;
}

static int
core_clear(Core *self)
{
    Py_CLEAR(self->attributes);
    Py_CLEAR(self->details);
    Py_CLEAR(self->id);
    Py_CLEAR(self->name);
    Py_CLEAR(self->parent_id);
    Py_CLEAR(self->prepared);
    Py_CLEAR(self->reuse_of);
    Py_CLEAR(self->span_context);
    Py_CLEAR(self->stage);
    Py_CLEAR(self->start);
    Py_CLEAR(self->token);
    Py_CLEAR(self->trace);
    return 0;
}

static void
core_dealloc(Core *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(set_doc, "set($self, key, value)\n--\n\n"
                      "Set an attribute: text, bool, int, float, bytes, None, lists and dicts of those; of others, "
                      "str(value).");

static PyMethodDef core_methods[] = {
    {"__enter__", (PyCFunction)(void (*)(void))core_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))core_exit, METH_FASTCALL, NULL},
    {"set", (PyCFunction)(void (*)(void))core_set, METH_FASTCALL | METH_KEYWORDS, set_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_doc, "What a span is made of, and its three hot methods. Span is its only subclass."},
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},
    {Py_tp_methods, core_methods},
    {Py_tp_members, core_members},
    {0, NULL},
};

static PyType_Spec core_spec = {
    .name = "tailsight._native.Core",
    .basicsize = sizeof(Core),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = core_slots,
};

/* --- stage() and request() ---------------------------------------------------------------------------------------- */

/* _span.new_span(), with nothing prepared. */
static PyObject *
new_span(PyObject *stage, PyObject *name)
{
    Core *span = (Core *)bound.span_type->tp_alloc(bound.span_type, 0);
    if (span == NULL) {
        return NULL;
    }
    span->stage = Py_NewRef(stage);
    span->name = Py_NewRef(name);
    span->attributes = Py_NewRef(Py_None);
    span->trace = Py_NewRef(Py_None);
    span->reuse_of = Py_NewRef(Py_None);
    span->prepared = Py_NewRef(Py_None);
    span->state = FRESH;
    return (PyObject *)span;
}

static PyObject *
stage(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    PyObject *name = Py_None;
    int plain = count == 1 && PyUnicode_CheckExact(arguments[0]);
    if (plain && keywords != NULL && PyTuple_GET_SIZE(keywords)) {
        name = arguments[1];
        plain = PyTuple_GET_SIZE(keywords) == 1 && (name == Py_None || PyUnicode_CheckExact(name))
                && PyUnicode_Compare(PyTuple_GET_ITEM(keywords, 0), names.name) == 0;
    }
    if (!plain) {
        return PyObject_Vectorcall(bound.pure_stage, arguments, (size_t)count, keywords);
    }
    return new_span(arguments[0], name);
}

static PyObject *
request(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    PyObject *name = count ? arguments[0] : Py_None;
    if (count > 1 || (keywords != NULL && PyTuple_GET_SIZE(keywords))
        || !(name == Py_None || PyUnicode_CheckExact(name))) {
        return PyObject_Vectorcall(bound.pure_request, arguments, (size_t)count, keywords);
    }
    return new_span(Py_None, name);
}

/* --- the module --------------------------------------------------------------------------------------------------- */

static Py_ssize_t
offset_of(PyTypeObject *type, const char *name)
{
    PyObject *member = PyObject_GetAttrString((PyObject *)type, name);
    if (member == NULL) {
        return -1;
    }
    Py_ssize_t offset = -1;
    if (Py_IS_TYPE(member, &PyMemberDescr_Type) && ((PyMemberDescrObject *)member)->d_member->type == T_OBJECT_EX) {
        offset = ((PyMemberDescrObject *)member)->d_member->offset;
    } else {
        PyErr_Format(PyExc_TypeError, "%s.%s is no slot", type->tp_name, name);
    }
    Py_DECREF(member);
    return offset;
}

static int
find_slots(void)
{
    struct {
        PyTypeObject *type;
        const char *name;
        Py_ssize_t *offset;
    } wanted[] = {
        {bound.trace_type, "recorder", &bound.recorder},
        {bound.trace_type, "records", &bound.records},
        {bound.trace_type, "new_span_id", &bound.new_span_id},
        {bound.trace_type, "now", &bound.now},
        {bound.trace_type, "entry_id", &bound.entry_id},
        {bound.trace_type, "ended", &bound.ended},
        {bound.trace_type, "max_attributes", &bound.max_attributes},
        {bound.trace_type, "max_text", &bound.max_text},
        {bound.trace_type, "trace_id", &bound.trace_id},
        {bound.trace_type, "flags", &bound.flags},
        {bound.trace_type, "state", &bound.state},
        {bound.trace_type, "anchor_ns", &bound.anchor_ns},
        {bound.trace_type, "entry_kind", &bound.entry_kind},
        {bound.trace_type, "entry_is_remote", &bound.entry_is_remote},
        {bound.trace_type, "decision", &bound.decision},
        {bound.recorder_type, "enabled", &bound.its_enabled},
        {bound.recorder_type, "sampler", &bound.its_sampler},
        {bound.recorder_type, "push", &bound.its_push},
        {bound.recorder_type, "now", &bound.its_now},
        {bound.recorder_type, "new_span_id", &bound.its_new_span_id},
        {bound.recorder_type, "new_trace_id", &bound.its_new_trace_id},
        {Py_TYPE(bound.current), "recorder", &bound.current_recorder},
    };
    for (size_t n = 0; n < Py_ARRAY_LENGTH(wanted); n++) {
        if ((*wanted[n].offset = offset_of(wanted[n].type, wanted[n].name)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
intern_names(void)
{
    struct {
        const char *text;
        PyObject **name;
    } wanted[] = {
        {"_enter_specially", &names.enter_specially},
        {"_enter_first", &names.enter_first},
        {"_exit_again", &names.exit_again},
        {"_close", &names.close},
        {"_pack_and_pass_on", &names.pack_and_pass_on},
        {"_was_recorded", &names.was_recorded},
        {"_leave", &names.leave},
        {"_set_cleaned", &names.set_cleaned},
        {"get", &names.get},
        {"old_value", &names.old_value},
        {"name", &names.name},
        {"", &names.nothing},
        {"entering a span", &names.entering},
        {"leaving a span", &names.leaving},
        {"setting an attribute", &names.setting},
    };
    for (size_t n = 0; n < Py_ARRAY_LENGTH(wanted); n++) {
        if ((*wanted[n].name = PyUnicode_InternFromString(wanted[n].text)) == NULL) {
            return -1;
        }
    }
    no_arguments = PyTuple_New(0);
    names.zero = PyLong_FromLong(0);
    names.one = PyLong_FromLong(1);
    return no_arguments == NULL || names.zero == NULL || names.one == NULL ? -1 : 0;
}

/* Core.__slots__ as PureCore's: copy.copy() asks for them. */
static int
name_slots(PyObject *type)
{
    Py_ssize_t count = Py_ARRAY_LENGTH(core_members) - 1;
    PyObject *slots = PyTuple_New(count);
    for (Py_ssize_t n = 0; slots != NULL && n < count; n++) {
        PyObject *name = PyUnicode_InternFromString(core_members[n].name);
        if (name == NULL) {
            Py_CLEAR(slots);
            break;
        }
        PyTuple_SET_ITEM(slots, n, name);
    }
    int status = slots == NULL ? -1 : PyObject_SetAttrString(type, "__slots__", slots);
    Py_XDECREF(slots);
    return status;
}

PyDoc_STRVAR(bind_doc,
             "bind($module, /, *, trace, recorder, current, fields, waiting_values, variable, get_current, attach, "
             "reset, context, span_key, default_state, with_span, caught, clock, get_ident)\n--\n\n"
             "Return the class Core, which uses these. Once in a process.");

static PyObject *
bind(PyObject *module, PyObject *arguments, PyObject *keywords)
{
    static char *parameters[] = {
        "trace",  "recorder",  "current", "fields",   "waiting_values", "variable",  "get_current",
        "attach", "reset",     "context", "span_key", "default_state",  "with_span", "caught",
        "clock",  "get_ident", NULL};
    PyObject *trace, *recorder, *current, *variable, *get, *attach, *reset_with, *context, *key, *state, *with_span;
    PyObject *caught, *clock, *ident;
    Py_ssize_t fields, waiting_values;
    if (bound.done) {
        PyErr_SetString(PyExc_RuntimeError, "one copy of tailsight in a process can be native, and bind() was called");
        return NULL;
    }
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "$O!O!OnnOOOOO!UOOOOO:bind", parameters, &PyType_Type, &trace,
                                     &PyType_Type, &recorder, &current, &fields, &waiting_values, &variable, &get,
                                     &attach, &reset_with, &PyType_Type, &context, &key, &state, &with_span, &caught,
                                     &clock, &ident)) {
        return NULL;
    }
    if (fields != FIELDS) {
        PyErr_SetString(PyExc_TypeError, "a record has other fields now");
        return NULL;
    }
    bound.trace_type = (PyTypeObject *)trace;
    bound.recorder_type = (PyTypeObject *)recorder;
    bound.current = current;
    bound.context_type = (PyTypeObject *)context;
    if (!PyType_IsSubtype(bound.context_type, &PyDict_Type) || bound.context_type->tp_new != PyDict_Type.tp_new
        || bound.context_type->tp_init != PyDict_Type.tp_init) {
        PyErr_SetString(PyExc_TypeError, "OpenTelemetry's Context is no dict with dict's constructor");
        return NULL;
    }
    if (variable != Py_None && !PyContextVar_CheckExact(variable)) {
        PyErr_SetString(PyExc_TypeError, "variable must be a ContextVar or None");
        return NULL;
    }
    if (find_slots() < 0 || intern_names() < 0) {
        return NULL;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &core_spec, NULL);
    if (type == NULL || name_slots(type) < 0) {
        Py_XDECREF(type);
        return NULL;
    }
    bound.waiting_values = waiting_values;
    bound.variable = variable == Py_None ? NULL : variable;
    bound.get_current = get;
    bound.attach = attach;
    bound.reset = reset_with;
    bound.span_key = key;
    bound.default_state = state;
    bound.with_span = with_span;
    bound.caught = caught;
    bound.clock = clock == Py_None ? NULL : clock;
    bound.get_ident = ident == Py_None ? NULL : ident;
    PyObject *held[] = {trace,   recorder, current, variable,  get,    attach, reset_with,
                        context, key,      state,   with_span, caught, clock,  ident};
    for (size_t n = 0; n < Py_ARRAY_LENGTH(held); n++) {
        Py_INCREF(held[n]); /* for as long as the process lives */
    }
    bound.done = 1;
    return type;
}

/* A function that looks like `pure` to Python. `method` and its text are kept for as long as the process lives. */
static PyObject *
function_like(PyObject *pure, PyMethodDef *method, const char *signature)
{
    PyObject *doc = PyObject_GetAttrString(pure, "__doc__"), *module_name = NULL, *function = NULL;
    Py_ssize_t size = 0;
    const char *text = doc == NULL ? NULL : doc == Py_None ? "" : PyUnicode_AsUTF8AndSize(doc, &size);
    size_t before = strlen(signature);
    char *full = text == NULL ? NULL : PyMem_RawCalloc(before + (size_t)size + 1, 1);
    if (full != NULL) {
        memcpy(full, signature, before);
        memcpy(full + before, text, (size_t)size);
        method->ml_doc = full;
        module_name = PyObject_GetAttrString(pure, "__module__");
        function = module_name == NULL ? NULL : PyCFunction_NewEx(method, NULL, module_name);
        Py_XDECREF(module_name);
    } else if (text != NULL) {
        PyErr_NoMemory();
    }
    Py_XDECREF(doc);
    return function;
}

PyDoc_STRVAR(factories_doc,
             "bind_factories($module, span, stage, request, /)\n--\n\n"
             "Return a stage() and a request() that make the plain spans themselves, and leave the rest to "
             "these. Once.");

static PyObject *
bind_factories(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *span, *pure_stage, *pure_request;
    if (!PyArg_ParseTuple(arguments, "O!OO:bind_factories", &PyType_Type, &span, &pure_stage, &pure_request)) {
        return NULL;
    }
    if (!bound.done || bound.span_type != NULL || ((PyTypeObject *)span)->tp_new != core_new) {
        PyErr_SetString(PyExc_RuntimeError, "bind_factories() takes the subclass of what bind() returned, once");
        return NULL;
    }
    static PyMethodDef stage_method = {"stage", (PyCFunction)(void (*)(void))stage, METH_FASTCALL | METH_KEYWORDS,
                                       NULL};
    static PyMethodDef request_method = {"request", (PyCFunction)(void (*)(void))request, METH_FASTCALL | METH_KEYWORDS,
                                         NULL};
    PyObject *made_stage = function_like(pure_stage, &stage_method, "stage(stage, *, name=None)\n--\n\n");
    PyObject *made_request =
        function_like(pure_request, &request_method,
                      "request(name=None, *, context=None, intended_start=None, deadline_ms=None)\n--\n\n");
    if (made_stage == NULL || made_request == NULL) {
        Py_XDECREF(made_stage);
        Py_XDECREF(made_request);
        return NULL;
    }
    bound.pure_stage = Py_NewRef(pure_stage);
    bound.pure_request = Py_NewRef(pure_request);
    bound.span_type = (PyTypeObject *)Py_NewRef(span);
    return Py_BuildValue("NN", made_stage, made_request);
}

PyDoc_STRVAR(leave_step_doc,
             "leave_step($module, stamps, now, token, /)\n--\n\n"
             "Append now() to the list, take what is current, and make current again what was before the token. Return "
             "what was current. For generators: an item costs this, and becoming current again.");

static PyObject *
leave_step(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyList_CheckExact(arguments[0]) || bound.variable == NULL) {
        PyErr_SetString(PyExc_TypeError, "leave_step() takes a list, a clock and a token, once bind() had a ContextVar");
        return NULL;
    }
    PyObject *stamp = read_clock(arguments[1]);
    if (stamp == NULL) {
        return NULL;
    }
    int status = PyList_Append(arguments[0], stamp);
    Py_DECREF(stamp);
    PyObject *here = NULL;
    if (status < 0 || PyContextVar_Get(bound.variable, NULL, &here) < 0) {
        return NULL;
    }
    if (here == NULL) { /* OpenTelemetry's has a default */
        PyErr_SetString(PyExc_LookupError, "nothing is current");
        return NULL;
    }
    if (PyContextVar_Reset(bound.variable, arguments[2]) < 0) {
        Py_DECREF(here);
        return NULL;
    }
    return here;
}

static PyMethodDef module_methods[] = {
    {"bind", (PyCFunction)(void (*)(void))bind, METH_VARARGS | METH_KEYWORDS, bind_doc},
    {"bind_factories", bind_factories, METH_VARARGS, factories_doc},
    {"dumps", dumps, METH_O, DUMPS_DOC},
    {"leave_step", (PyCFunction)(void (*)(void))leave_step, METH_FASTCALL, leave_step_doc},
    {NULL, NULL, 0, NULL},
};

static int
fill(PyObject *module)
{
    return PyModule_AddStringConstant(module, "BUILD", TEXT(TAILSIGHT_BUILD));
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,       .m_name = "tailsight._native", .m_doc = "The hot path in C, see _core.py.",
    .m_methods = module_methods, .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
