#ifndef TAILSIGHT_PACK_H
#define TAILSIGHT_PACK_H

#define PY_SSIZE_T_CLEAN
#ifndef NDEBUG
#define NDEBUG /* an assertion of Python's headers that fails would end the host's process */
#endif
#include <Python.h>

/* Texts that C extensions made with the old Py_UNICODE API are not ready to be looked at before Python 3.12. */
#if PY_VERSION_HEX < 0x030C0000
#define IS_READY(text) PyUnicode_IS_READY(text)
#else
#define IS_READY(text) 1
#endif

#define DUMPS_DOC "dumps($module, value, /)\n--\n\nDo as marshal.dumps() does, for plain values."

/* A method of the module, METH_O. */
PyObject *dumps(PyObject *module, PyObject *object);

#endif
