"""Element types of the .mcc file, numbered as in ONNX TensorProto.DataType (kernels/mcc.h has the same list)."""

TYPE_NUMBERS = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}
TYPE_NAMES = {number: name for name, number in TYPE_NUMBERS.items()}
TYPE_BYTES = {
    "float32": 4, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "int64": 8, "bool": 1, "float16": 2,
    "float64": 8, "uint32": 4, "uint64": 8, "bfloat16": 2,
}
