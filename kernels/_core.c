/* _core.c: the face of the engine for Python, in the limited API of 3.10; the only file with Python.h.
 *
 * Thin on purpose: it hands out ports as memory and lets kernels/__init__.py do the rest in numpy. */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030A0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/cpu.h"
#include "core/isa.h"
#include "core/ops.h"
#include "core/peak.h"
#include "core/registry.h"
#include "core/state.h"

#ifndef PyBUF_WRITE /* PyMemoryView_FromMemory is in the limited API of 3.10, its flag is not */
#define PyBUF_WRITE 0x200
#endif

typedef struct net_object {
    PyObject_HEAD
    mcc_net *net;
    PyObject *owner; /* of the memory that mcc_open_memory reads; NULL for a file */
} net_object;

static PyObject *engine_error; /* mcc.kernels.EngineError */
static PyTypeObject *net_type;

/* Raises for `status`: where, what, why. Returns NULL. */
static PyObject *fail(mcc_status status, const char *where) {
    PyObject *kind = status == MCC_NO_FILE ? PyExc_OSError : status == MCC_NO_MEMORY ? PyExc_MemoryError
                   : status == MCC_BAD_ARGUMENT ? PyExc_ValueError : engine_error;
    const char *why = mcc_why();
    if (status == MCC_NO_FILE && *why) return PyErr_Format(kind, "%s", why); /* names the path itself */
    return PyErr_Format(kind, "%s%s%s%s%s", where, *where ? ": " : "", mcc_status_text(status), *why ? ": " : "", why);
}

static PyObject *wrap(mcc_net *net, PyObject *owner) {
    net_object *self = PyObject_New(net_object, net_type);
    if (!self) {
        mcc_close(net);
        return NULL;
    }
    self->net = net;
    self->owner = owner;
    Py_XINCREF(owner);
    return (PyObject *)self;
}

static void net_dealloc(PyObject *self) {
    net_object *o = (net_object *)self;
    mcc_close(o->net);
    Py_XDECREF(o->owner);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* open(path: str) */
static PyObject *core_open(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&:open", PyUnicode_FSConverter, &path)) return NULL;
    const char *name = PyBytes_AsString(path);
    mcc_net *net = NULL;
    mcc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = mcc_open(name, &net);
    Py_END_ALLOW_THREADS
    PyObject *result = status == MCC_OK ? wrap(net, NULL) : fail(status, name);
    Py_DECREF(path);
    return result;
}

static void free_copy(PyObject *capsule) { mcc_aligned_free(PyCapsule_GetPointer(capsule, NULL)); }

/* open_bytes(file: bytes): from a copy, since the engine wants it aligned to 64 */
static PyObject *core_open_bytes(PyObject *module, PyObject *args) {
    (void)module;
    const char *bytes;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#:open_bytes", &bytes, &size)) return NULL;
    void *copy = mcc_aligned_alloc((size_t)size);
    if (!copy) return PyErr_NoMemory();
    PyObject *owner = PyCapsule_New(copy, NULL, free_copy);
    if (!owner) {
        mcc_aligned_free(copy);
        return NULL;
    }
    memcpy(copy, bytes, (size_t)size);
    mcc_net *net = NULL;
    mcc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = mcc_open_memory(copy, (size_t)size, &net);
    Py_END_ALLOW_THREADS
    PyObject *result = status == MCC_OK ? wrap(net, owner) : fail(status, "<bytes>");
    Py_DECREF(owner);
    return result;
}

/* A port as (name, type number, shape, memory). The memory lives as long as the net. */
static PyObject *port_tuple(const mcc_port *p) {
    PyObject *shape = PyTuple_New((Py_ssize_t)p->rank);
    if (!shape) return NULL;
    for (unsigned i = 0; i < p->rank; i++) {
        PyObject *dim = PyLong_FromSize_t(p->shape[i]);
        if (!dim || PyTuple_SetItem(shape, (Py_ssize_t)i, dim)) {
            Py_DECREF(shape);
            return NULL;
        }
    }
    static char nothing[1];
    PyObject *memory = PyMemoryView_FromMemory(p->bytes ? p->data : nothing, (Py_ssize_t)p->bytes, PyBUF_WRITE);
    if (!memory) {
        Py_DECREF(shape);
        return NULL;
    }
    return Py_BuildValue("siNN", p->name, (int)p->type, shape, memory);
}

static PyObject *ports(const mcc_net *net, size_t count, const mcc_port *(*port)(const mcc_net *, size_t)) {
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *item = port_tuple(port(net, i));
        if (!item || PyList_Append(list, item)) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *net_inputs(PyObject *self, PyObject *none) {
    (void)none;
    const mcc_net *net = ((net_object *)self)->net;
    return ports(net, mcc_inputs(net), mcc_input);
}

static PyObject *net_outputs(PyObject *self, PyObject *none) {
    (void)none;
    const mcc_net *net = ((net_object *)self)->net;
    return ports(net, mcc_outputs(net), mcc_output);
}

static PyObject *net_run(PyObject *self, PyObject *none) {
    (void)none;
    mcc_net *net = ((net_object *)self)->net;
    Py_BEGIN_ALLOW_THREADS
    mcc_run(net);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* set_threads(n) */
static PyObject *net_set_threads(PyObject *self, PyObject *args) {
    unsigned threads;
    if (!PyArg_ParseTuple(args, "I:set_threads", &threads)) return NULL;
    const mcc_status status = mcc_set_threads(((net_object *)self)->net, threads);
    if (status != MCC_OK) return fail(status, "");
    Py_RETURN_NONE;
}

/* set_profile(on) */
static PyObject *net_set_profile(PyObject *self, PyObject *args) {
    int on;
    if (!PyArg_ParseTuple(args, "p:set_profile", &on)) return NULL;
    mcc_set_profile(((net_object *)self)->net, on);
    Py_RETURN_NONE;
}

/* profile() -> [(name, op, kernel, ms, macs)] */
static PyObject *net_profile(PyObject *self, PyObject *none) {
    (void)none;
    const mcc_node_profile *nodes;
    const size_t count = mcc_profile(((net_object *)self)->net, &nodes);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < count; i++) {
        const mcc_node_profile *n = &nodes[i];
        PyObject *item = Py_BuildValue("sssdK", n->name, n->op, n->kernel, n->ms, (unsigned long long)n->macs);
        if (!item || PyList_Append(list, item)) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* prepack(path) */
static PyObject *net_prepack(PyObject *self, PyObject *args) {
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&:prepack", PyUnicode_FSConverter, &path)) return NULL;
    const mcc_status status = mcc_prepack(((net_object *)self)->net, PyBytes_AsString(path));
    Py_DECREF(path);
    if (status != MCC_OK) return fail(status, "");
    Py_RETURN_NONE;
}

/* facts() -> (arena bytes, weight bytes, threads, isa, note, packed state, packed bytes, tuned state) */
static PyObject *net_facts(PyObject *self, PyObject *none) {
    (void)none;
    mcc_facts f;
    mcc_describe(((net_object *)self)->net, &f);
    return Py_BuildValue("nnIsy#ini", (Py_ssize_t)f.arena_bytes, (Py_ssize_t)f.weight_bytes, f.threads, f.isa, f.meta,
                         (Py_ssize_t)f.meta_bytes, (int)f.packed, (Py_ssize_t)f.packed_bytes, (int)f.tuned);
}

static PyObject *net_clone(PyObject *self, PyObject *none) {
    (void)none;
    net_object *o = (net_object *)self;
    mcc_net *copy = NULL;
    const mcc_status status = mcc_clone(o->net, &copy);
    return status == MCC_OK ? wrap(copy, o->owner) : fail(status, "clone");
}

/* machine() -> (ISA bits, checksum of all kernels' names, CPU model): what choices of kernels hold for (file.h) */
static PyObject *core_machine(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    char model[MCC_CPU_MODEL];
    mcc_cpu_model(model);
    return Py_BuildValue("IIs", (unsigned)mcc_isa(), (unsigned)mcc_kernels_crc(), model);
}

/* limit_isa(words: str | None) */
static PyObject *core_limit_isa(PyObject *module, PyObject *args) {
    (void)module;
    const char *words;
    if (!PyArg_ParseTuple(args, "z:limit_isa", &words)) return NULL;
    const mcc_status status = mcc_limit_isa(words);
    if (status != MCC_OK) return fail(status, "isa");
    Py_RETURN_NONE;
}

/* limit_kernel(name: str | None) */
static PyObject *core_limit_kernel(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    if (!PyArg_ParseTuple(args, "z:limit_kernel", &name)) return NULL;
    const mcc_status status = mcc_limit_kernel(name);
    if (status != MCC_OK) return fail(status, "kernel");
    Py_RETURN_NONE;
}

/* peak(what: str) -> 10^9 operations or bytes a second of one thread */
static PyObject *core_peak(PyObject *module, PyObject *args) {
    (void)module;
    const char *what;
    if (!PyArg_ParseTuple(args, "s:peak", &what)) return NULL;
    double rate;
    Py_BEGIN_ALLOW_THREADS
    rate = mcc_peak(what);
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(rate);
}

static PyObject *core_isa(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    char text[128];
    mcc_isa_text(mcc_isa(), text, sizeof text);
    return PyUnicode_FromString(text);
}

/* kernels() -> [(family, name, isa words, runs here)] */
static PyObject *core_kernels(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    PyObject *list = PyList_New(0);
    const char *family;
    mcc_kernel_info info;
    for (size_t i = 0; list && mcc_kernel_at(i, &family, &info); i++) {
        char words[128];
        mcc_isa_text(info.isa, words, sizeof words);
        const char *isa = words[0] == 'c' && words[1] == ' ' ? words + 2 : words; /* every kernel "needs" plain C */
        PyObject *item = Py_BuildValue("sssO", family, info.name, isa, (info.isa & mcc_isa()) == info.isa ? Py_True : Py_False);
        if (!item || PyList_Append(list, item)) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *core_ops(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    PyObject *list = PyList_New(0);
    const char *op;
    for (size_t i = 0; list && (op = mcc_op_at(i)); i++) {
        PyObject *name = PyUnicode_FromString(op);
        if (!name || PyList_Append(list, name)) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyMethodDef net_methods[] = {
    {"inputs", net_inputs, METH_NOARGS, NULL},
    {"outputs", net_outputs, METH_NOARGS, NULL},
    {"run", net_run, METH_NOARGS, NULL},
    {"set_threads", net_set_threads, METH_VARARGS, NULL},
    {"set_profile", net_set_profile, METH_VARARGS, NULL},
    {"profile", net_profile, METH_NOARGS, NULL},
    {"facts", net_facts, METH_NOARGS, NULL},
    {"prepack", net_prepack, METH_VARARGS, NULL},
    {"clone", net_clone, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot net_slots[] = {
    {Py_tp_dealloc, net_dealloc},
    {Py_tp_methods, net_methods},
    {Py_tp_doc, "An open net; see mcc.kernels.Session."},
    {0, NULL},
};

static PyType_Spec net_spec = {"mcc.kernels._core.Net", sizeof(net_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, net_slots};

static PyMethodDef core_methods[] = {
    {"open", core_open, METH_VARARGS, NULL},
    {"open_bytes", core_open_bytes, METH_VARARGS, NULL},
    {"limit_isa", core_limit_isa, METH_VARARGS, NULL},
    {"limit_kernel", core_limit_kernel, METH_VARARGS, NULL},
    {"peak", core_peak, METH_VARARGS, NULL},
    {"isa", core_isa, METH_NOARGS, NULL},
    {"machine", core_machine, METH_NOARGS, NULL},
    {"kernels", core_kernels, METH_NOARGS, NULL},
    {"ops", core_ops, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef core_module = {PyModuleDef_HEAD_INIT, "_core", "The engine.", -1, core_methods,
                                         NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *module = PyModule_Create(&core_module);
    if (!module) return NULL;
    net_type = (PyTypeObject *)PyType_FromSpec(&net_spec);
    engine_error = PyErr_NewExceptionWithDoc(
        "mcc.kernels.EngineError", "A .mcc file that this engine cannot open; says what and why in one line.", NULL, NULL);
    if (!net_type || !engine_error || PyModule_AddObjectRef(module, "EngineError", engine_error)) Py_CLEAR(module);
    return module;
}
