"""Make the Fashion-MNIST subset that ships: `python data/make_subset.py FOLDER_WITH_THE_FULL_SET`.

10,000 training and 4,000 test images, 1,000 and 400 of each class, drawn with a fixed seed from the official training
and test splits (so that no test image was ever a training image), in shuffled order, as the same four IDX .gz files.
Running it again gives the same bytes after unpacking.
"""
import gzip
import struct
import sys
from pathlib import Path

import numpy as np


def read(path):
    raw = gzip.decompress(path.read_bytes())
    shape = struct.unpack(f">{raw[3]}I", raw[4: 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def write(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(head + array.tobytes())


def main(source):
    out = Path(__file__).parent / "fashion-mnist"
    out.mkdir(exist_ok=True)
    for split, each in (("train", 1000), ("t10k", 400)):
        rng = np.random.default_rng(2017)
        images, labels = (f"{split}-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1"))
        y = read(source / labels)
        rows = rng.permutation(np.concatenate([rng.choice(np.flatnonzero(y == c), each, replace=False) for c in range(10)]))
        write(out / images, read(source / images)[rows])
        write(out / labels, y[rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
