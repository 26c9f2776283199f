"""The built-in sets. Those with a licence to do so ship in the repository (`data/`); the others are fetched once.

    fashion-mnist  28x28 clothes, 10 classes (Xiao et al. 2017, MIT): all 60,000 + 10,000 where Debian's package or the
                   authors' files are, else the 10,000 + 4,000 that ship
    mnist          28x28 digits, 10,000 of them (fetched), 8,000 + 2,000
    digits         8x8 digits, 1,797 of them, where scikit-learn is installed
    photos         crops of sample photographs without labels (fetched); train and test are different photographs
    sentences      sentences from film reviews or tweets with the sign of their sentiment (fetched)
"""
from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import Array, Source, Table
from .fetch import cache, find, obtain

SHIPPED = Path(__file__).resolve().parents[2] / "data"
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
# SHA-256 of the unpacked IDX files of the full set (packers differ in how they compress them).
FULL = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def fashion_mnist(path: str | None = None, subset: bool = False, mean: float = 0.286, std: float = 0.353) -> Source:
    """x float32 [n, 1, 28, 28]. path: a folder with the four IDX .gz files; subset: use what ships even where the
    full set is installed."""
    places = [Path(path).expanduser()] if path else [Path("/usr/share/datasets/fashion-mnist"), cache() / "fashion-mnist"]
    for folder in [] if subset else places:
        if all((folder / name).is_file() for name in FULL):
            return _fashion(folder, None if path else FULL, mean, std)
    if path:
        raise UserError(f"data: fashion-mnist: {path} does not hold {', '.join(FULL)}")
    shipped = SHIPPED / "fashion-mnist"
    if not shipped.is_dir():
        raise UserError(f"data: fashion-mnist: no {shipped}; run from a checkout of mcc, install Debian's "
                        "dataset-fashion-mnist, or give `path:`")
    return _fashion(shipped, None, mean, std)


def _fashion(folder: Path, expected: dict | None, mean, std) -> Source:
    arrays = [read_idx(folder / name, expected[name] if expected else None) for name in FULL]
    train, test = (Table({"x": Array(x[:, None], (mean,), (std,))}, y.astype(np.int64)) for x, y in (arrays[:2], arrays[2:]))
    return Source(train, test, FASHION)


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """A gzipped IDX file of uint8. Raises UserError when it is broken or not the expected one."""
    try:
        raw = gzip.decompress(Path(path).read_bytes())
        rank = raw[3]
        shape = struct.unpack(f">{rank}I", raw[4: 4 + 4 * rank])
        if raw[:3] != b"\0\0\x08":
            raise ValueError("not an IDX file of bytes")
        array = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, struct.error) as e:
        raise UserError(f"data: {path}: {e}; delete it or put a good copy there") from None
    if sha256 and hashlib.sha256(raw).hexdigest() != sha256:
        raise UserError(f"data: {path} is not the file its authors published (SHA-256 differs); delete it or put a good copy "
                        "there")
    return array


def split(labels: np.ndarray, test: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of train and test, stratified: each class gives the share `test` of its samples to test."""
    rng, parts = np.random.default_rng(seed), []
    for c in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == c))
        parts.append(np.split(rows, [len(rows) - round(test * len(rows))]))
    return rng.permutation(np.concatenate([p[0] for p in parts])), rng.permutation(np.concatenate([p[1] for p in parts]))


def mnist(test: float = 0.2, mean: float = 0.1307, std: float = 0.3081) -> Source:
    """x float32 [n, 1, 28, 28]; the share `test` of each class is the test split (always the same samples)."""
    folder, images, labels = obtain("mnist-digits"), [], []
    for digit in range(10):
        path = folder / "package/src/digits" / f"{digit}.json"
        try:
            pixels = np.array(json.loads(path.read_text())["data"], np.float32).reshape(-1, 28, 28)
        except (OSError, ValueError, KeyError) as e:
            raise UserError(f"data: mnist: {path}: {e}; delete {folder} to fetch it again") from None
        images.append(np.rint(pixels * 255).astype(np.uint8))
        labels += [digit] * len(pixels)
    x, y = np.concatenate(images)[:, None], np.array(labels)
    train, held = (Table({"x": Array(x[rows], (mean,), (std,))}, y[rows]) for rows in split(y, test))
    return Source(train, held, [str(d) for d in range(10)])


def digits(test: float = 0.25) -> Source:
    """scikit-learn's digits: x float32 [n, 1, 8, 8] in 0..1."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("data: digits comes with scikit-learn: pip install scikit-learn, or use `source: mnist`") from None
    made = load_digits()
    x, y = (made.images[:, None] / 16).astype(np.float32), made.target.astype(np.int64)
    train, held = (Table({"x": Array(x[rows])}, y[rows]) for rows in split(y, test))
    return Source(train, held, [str(d) for d in range(10)])


# The photographs among scikit-image's samples, and whether they are calibrated on or tested with. Those with an
# object that a classifier knows (a cat, a cup, an astronaut, a rocket, a motorcycle) are all in the test split.
PHOTOS = {
    "train": {"sample-photos": ["brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "coins.png",
                                "motorcycle_right.png"],
              "background-photos": ["Aqua.jpg", "Dune.jpg", "FreshFlower.jpg", "GreenMeadow.jpg", "Storm.jpg", "TwoWings.jpg",
                                    "Wood.jpg", "Blinds.jpg"]},
    "test": {"sample-photos": ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "horse.png",
                               "camera.png"],
             "background-photos": ["Elephants.jpg", "Garden.jpg", "LadyBird.jpg", "RainDrops.jpg", "YellowFlower.jpg"]},
}


def photos(size: int = 224, crops: int = 24, mean: list | float = 127 / 255, std: list | float = 128 / 255) -> Source:
    """x float32 [n, 3, size, size]: `crops` crops of each photograph, from the whole picture to quarters of it."""
    tables = {}
    for part, packages in PHOTOS.items():
        images = []
        for package, names in packages.items():
            try:
                obtain(package)
            except UserError:
                if package == "background-photos":  # only Debian's relatives have it; the other photographs will do
                    continue
                raise
            for name in names:
                images += _crops(find(package, f"**/{name}"), size, crops)
        tables[part] = Table({"x": Array(np.stack(images), _list(mean), _list(std))})
    return Source(tables["train"], tables["test"])


def _list(v) -> tuple:
    return tuple(v) if isinstance(v, (list, tuple)) else (v,)


def _crops(path: Path, size: int, count: int) -> list[np.ndarray]:
    """uint8 [3, size, size] crops: the centre first, then places drawn with a fixed seed, 30 to 100 % of the shorter side."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    image.thumbnail((1600, 1600), Image.Resampling.BICUBIC)
    rng, (w, h), out = np.random.default_rng(sum(path.name.encode())), image.size, []
    for i in range(count):
        side = min(w, h) if i == 0 else int(min(w, h) * rng.uniform(0.3, 1))
        left, top = ((w - side) // 2, (h - side) // 2) if i == 0 else (rng.integers(w - side + 1), rng.integers(h - side + 1))
        crop = image.crop((int(left), int(top), int(left) + side, int(top) + side)).resize((size, size), Image.Resampling.BICUBIC)
        out.append(np.asarray(crop).transpose(2, 0, 1))
    return out


def sentences(kind: str = "movies", length: int = 128, test: float = 0.2, tokenizer: str | None = None) -> Source:
    """input_ids, attention_mask and token_type_ids int64 [n, length]; labels: 1 where people scored the sentence as
    positive, 0 as negative (scores within 0.5 of neutral are left out). kind: movies | tweets. tokenizer: a
    tokenizer.json; without it the one of all-MiniLM-L6-v2."""
    import tarfile

    from .text import encode

    members = {"movies": "movieReviewSnippets_GroundTruth.txt", "tweets": "tweets_GroundTruth.txt"}
    if kind not in members:
        raise UserError(f"data: sentences: kind is {' or '.join(members)}, not {kind!r}")
    with tarfile.open(find("sentiment-sentences", "**/hutto_ICWSM_2014.tar.gz")) as t:
        rows = t.extractfile(f"hutto_ICWSM_2014/{members[kind]}").read().decode("utf-8", "replace").splitlines()
    fields = [r.split("\t", 2) for r in rows]
    kept = [(float(f[1]), f[2].strip()) for f in fields if len(f) == 3 and abs(float(f[1])) >= 0.5 and f[2].strip()]
    y = np.array([score > 0 for score, _ in kept], np.int64)
    columns = encode([text for _, text in kept], tokenizer or find("minilm-l6", "**/tokenizer.json"), length)
    train, held = (Table({k: Array(v[rows]) for k, v in columns.items()}, y[rows]) for rows in split(y, test))
    return Source(train, held, ["negative", "positive"])
