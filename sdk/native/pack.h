#ifndef TAILSIGHT_PACK_H
#define TAILSIGHT_PACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define DUMPS_DOC "dumps($module, value, /)\n--\n\nDo as marshal.dumps() does, for plain values."

/* A method of the module, METH_O. */
PyObject *dumps(PyObject *module, PyObject *object);

#endif
