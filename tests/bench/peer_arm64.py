"""One inference of a peer between two marks, for the plugin that counts: run by the emulated Python of arm64_python.py.

    python peer_arm64.py WITH_RUNTIME.py FILE PRECISION VARIANT INPUTS.npz OUTPUTS.npz

Runs twice, marked as region 0 both times; the last one counts: what a runtime does once is not in it, and simulated caches are
warm. The outputs are those of the first run, for some use the memory of their inputs for other things. Prints the version.
"""
import ctypes
import gc
import importlib.util
import sys

import numpy as np

MARK = 0x6D6363  # kernels/core/mark.h


def main(module: str, file: str, precision: str, variant: str, inputs: str, outputs: str) -> None:
    spec = importlib.util.spec_from_file_location("runtime", module)
    runtime = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runtime)
    with np.load(inputs) as found:
        feeds = {k: found[k] for k in found.files}
    model = runtime.Model(file, precision, 1, feeds, variant)
    mark, number = ctypes.CDLL(None).syscall, ctypes.c_long(MARK)
    enter, leave = ctypes.c_long(0), ctypes.c_long(-1)
    gc.disable()
    for turn in range(2):
        mark(number, enter)
        model.run()
        mark(number, leave)
        if not turn:
            np.savez(outputs, *model.outputs())
    print(runtime.version())


if __name__ == "__main__":
    main(*sys.argv[1:])
