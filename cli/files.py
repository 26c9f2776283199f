"""Files that people hand to the commands: arrays, images, `--bind NAME=VALUE`, models that are lowered on the way."""
from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

from ..passes.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def bind_option(f):
    return click.option("--bind", "binds", multiple=True, metavar="NAME=VALUE",
                        help="Size of a symbolic dimension, once per dimension: --bind seq=128")(f)


def bound(binds) -> dict[str, int]:
    made = {}
    for text in binds:
        name, eq, value = text.partition("=")
        if not eq or not name or not value.isdigit() or int(value) < 1:
            raise UserError(f"--bind {text}: write NAME=VALUE with a whole number of at least 1, like --bind seq=128")
        made[name] = int(value)
    return made


def known(path: Path, kinds: tuple[str, ...]) -> Path:
    """The path, when the file is there and of one of the kinds. Raises UserError."""
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, beside, n=1)
        raise UserError(f"{path}: no such file" + (f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""))
    if path.suffix.lower() not in kinds:
        raise UserError(f"{path}: cannot tell what it is from {path.suffix!r}; it takes {', '.join(kinds)}")
    return path


def arrays(path: Path) -> dict:
    """The arrays of an .npz by name, or of an .npy under the name ''."""
    import zipfile

    import numpy as np
    known(path, (".npy", ".npz"))
    try:
        found = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npz":
            with found:
                return {k: found[k] for k in found.files}
        return {"": found}
    except (ValueError, EOFError, OSError, KeyError, AttributeError, zipfile.BadZipFile) as e:
        raise UserError(f"{path}: cannot be read as numpy arrays ({' '.join(str(e).split())})") from None


def fed(given: dict, ports, path) -> dict:
    """Arrays matched to a model's inputs by name (an unnamed one goes to the only input), with their batch axis and
    dtype. Raises UserError. ports have name, shape, dtype."""
    import numpy as np
    names = [p.name for p in ports]
    if "" in given:
        if len(names) != 1:
            raise UserError(f"{path}: one array for {len(names)} inputs; give an .npz with {', '.join(names)}")
        given = {names[0]: given[""]}
    problems = [f"{path}: has no array for input {n!r}; it has {', '.join(given) or 'none'}" for n in names if n not in given]
    for n in given:
        if n not in names:
            near = get_close_matches(n, names, n=1)
            problems.append(f"{path}: the model has no input {n!r}" + (f"; did you mean {near[0]!r}?" if near else
                                                                      f"; it has {', '.join(names)}"))
    if problems:
        raise UserError(*problems)
    made, counts = {}, set()
    for p in ports:
        a, dtype = given[p.name], np.dtype("float32" if p.dtype == "bfloat16" else p.dtype)
        if a.ndim == len(p.shape) - 1:
            a = a[None]
        fits = a.ndim == len(p.shape) and all(not isinstance(d, int) or d == e for d, e in zip(p.shape[1:], a.shape[1:]))
        if not fits:
            problems.append(f"{path}: input {p.name!r} is {list(given[p.name].shape)}, the model takes "
                            f"{['N', *p.shape[1:]] if p.shape else []}".replace("'N'", "N"))
        elif dtype.kind + a.dtype.kind not in ("ff", "fi", "fu", "ii", "uu", "iu", "ui", "bb"):
            problems.append(f"{path}: input {p.name!r} is {a.dtype}, the model takes {dtype}")
        else:
            made[p.name] = np.ascontiguousarray(a, dtype)
            if p.shape:
                counts.add(len(a))
    if not problems and len(counts) > 1:
        problems.append(f"{path}: the arrays have different numbers of samples: {', '.join(map(str, sorted(counts)))}")
    if problems:
        raise UserError(*problems)
    return made


def image(path: Path, ports, mean: list[float], std: list[float], scale: float) -> dict:
    """A picture as the model's input: the shorter side scaled, the centre cut, (pixel / scale - mean) / std."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError
    if len(ports) != 1 or len(ports[0].shape) != 4:
        raise UserError(f"{path}: an image needs a model with one input of four dimensions; give an .npz")
    shape = ports[0].shape
    last = shape[3] in (1, 3) and shape[1] not in (1, 3)  # channels last
    c, h, w = (shape[3], shape[1], shape[2]) if last else shape[1:]
    if c not in (1, 3):
        raise UserError(f"{path}: the model takes {c} channels, an image has 1 or 3; give an .npz")
    try:
        picture = Image.open(path).convert("RGB" if c == 3 else "L")
    except (OSError, UnidentifiedImageError) as e:
        raise UserError(f"{path}: not a readable image ({e})") from None
    f = max(h / picture.height, w / picture.width)
    picture = picture.resize((max(w, round(picture.width * f)), max(h, round(picture.height * f))), Image.Resampling.BILINEAR)
    left, top = (picture.width - w) // 2, (picture.height - h) // 2
    pixels = np.asarray(picture.crop((left, top, left + w, top + h)))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if np.dtype(ports[0].dtype if ports[0].dtype != "bfloat16" else "float32").kind == "f":
        pixels = (pixels.astype(np.float32) / np.float32(scale) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return {ports[0].name: (pixels if last else pixels.transpose(2, 0, 1))[None]}


def numbers(text: str, what: str) -> list[float]:
    """"0.5" or "0.1,0.2,0.3"."""
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        raise UserError(f"{what} {text}: write a number, or three with commas between") from None


def calibration(path: Path | None, graph) -> list[dict] | None:
    """Batches for the calibration of `graph` from an .npz (one array per input, first axis = samples)."""
    if path is None:
        return None
    made = fed(arrays(path), graph.inputs, path)
    first = graph.inputs[0].shape[0] if graph.inputs[0].shape else 1
    count = len(next(iter(made.values())))
    fixed = isinstance(first, int)  # takes whole batches only; a symbolic one takes what there is
    size = first if fixed else 32
    if count < (size if fixed else 1):
        raise UserError(f"{path}: has {count} samples, the model takes {size if fixed else 'one or more'} at once")
    end = count - size + 1 if fixed else count
    return [{k: a[i:i + size] for k, a in made.items()} for i in range(0, end, size)]
