"""The networks we ship and measure have the sizes that their papers state, and their public checkpoints fit."""
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import models as bench
from mcc.passes import zoo
from mcc.passes.data import fetch, open_data

torch.set_num_threads(1)  # the networks are small and the test runner may use all cores


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", bench.MODELS)
def test_macs_are_those_of_the_paper(name):
    model = bench.MODELS[name]
    with torch.device("meta"):
        module = model.make().eval()
    inputs = {k: v.to("meta") for k, v in model.inputs().items()}
    got = bench.macs(module, inputs) / 1e6
    if model.macs is None:
        assert got > 0
    else:
        assert got == pytest.approx(model.macs, abs=max(0.5, 0.002 * model.macs) if model.macs > 5 else 0.01)


@pytest.mark.parametrize(("name", "millions"), [("mobilenet_v1", 4.23), ("mobilenet_v2", 3.50), ("mobilenet_v3_small", 2.54),
                                                ("efficientnet_lite0", 4.65), ("shufflenet_v2", 2.28), ("squeezenet11", 1.24),
                                                ("resnet18", 11.69), ("resnet50", 25.56), ("bert_base", 108.9)])
def test_parameters_are_those_of_the_paper(name, millions):
    with torch.device("meta"):
        assert parameters(bench.MODELS[name].make()) / 1e6 == pytest.approx(millions, rel=5e-3)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2", "ds_cnn", "mlp", "crnn", "tinybert4"])
def test_make_repeats_and_is_sane(name):
    (a, inputs), (b, again) = bench.make(name), bench.make(name)
    assert all(torch.equal(inputs[k], again[k]) for k in inputs) and not a.training
    with torch.no_grad():
        y = a(*inputs.values())
        assert torch.equal(y, b(*inputs.values()))
    assert torch.isfinite(y).all() and 1e-3 < float(y.std()) < 100
    for m in a.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            assert float(m.running_var.min()) > 0 and m.momentum == 0.1


def test_export_is_kept_and_has_our_names(tmp_path):
    import onnx

    path = bench.export_onnx("ds_cnn", tmp_path / "ds.onnx")
    model = onnx.load(path)
    assert [i.name for i in model.graph.input] == ["x"] and model.opset_import[0].version == 23
    assert "BatchNormalization" in {n.op_type for n in model.graph.node}


@pytest.mark.parametrize(("make", "count", "shape"), [
    (zoo.lenet5, 431_080, (1, 28, 28)), (zoo.lenet300, 266_610, (1, 28, 28)), (zoo.digit_recognizer, 390_410, (1, 28, 28)),
    (zoo.resnet20, 272_474, (3, 32, 32)), (zoo.efficientnet_lite0, 4_652_008, (3, 64, 64))])
def test_zoo_sizes_and_gradients(make, count, shape):
    module = make()
    assert parameters(module) == count
    y = module(torch.randn(2, *shape))
    assert y.shape in ((2, 10), (2, 1000))
    y.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


def test_zoo_classes_and_channels():
    assert zoo.lenet5(classes=3)(torch.randn(1, 1, 28, 28)).shape == (1, 3)
    assert zoo.resnet20(classes=3, channels=1, width=4)(torch.randn(2, 1, 28, 28)).shape == (2, 3)


def test_bert_takes_checkpoints_with_a_pooler_and_a_prefix():
    small = {"layers": 1, "hidden": 8, "heads": 2, "ffn": 16, "vocabulary": 30, "positions": 12}
    a, b = zoo.Bert(**small).eval(), zoo.Bert(**small, pooling="mean", normalize=True).eval()
    state = {f"bert.{k}": v for k, v in a.state_dict().items()}
    state |= {"bert.pooler.dense.weight": torch.zeros(8, 8), "bert.embeddings.position_ids": torch.arange(12)[None]}
    b.load_state_dict(state)
    ids, mask = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]]), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    with torch.no_grad():
        tokens, sentences = a(ids, mask), b(ids, mask)
        shorter = b(ids[1:, :2], mask[1:, :2])
    assert tokens.shape == (2, 4, 8) and sentences.norm(dim=-1).tolist() == pytest.approx([1, 1])
    assert torch.allclose(sentences[0], torch.nn.functional.normalize(tokens[0, :3].mean(0), dim=0), atol=1e-6)
    assert torch.allclose(sentences[1:], shorter, atol=1e-6)  # padding changes nothing
    with pytest.raises(ValueError, match="pooling is none or mean"):
        zoo.Bert(**small, pooling="max")


def cached(name):
    return pytest.mark.skipif(not (fetch.cache() / f"{name}-{fetch.PACKAGES[name].version}").is_dir(),
                              reason=f"{name} is not in the cache; mcc fetches it for a recipe")


@cached("efficientnet-lite0")
@cached("sample-photos")
def test_efficientnet_knows_the_sample_photos():
    """ImageNet classes: 285 Egyptian cat, 281 tabby, 282 tiger cat; 967 espresso, 504 coffee mug, 968 cup."""
    import numpy as np
    from PIL import Image

    model = zoo.efficientnet_lite0(pretrained=True)
    for name, classes in (("chelsea.png", {281, 282, 285}), ("coffee.png", {967, 504, 968})):
        image = Image.open(fetch.find("sample-photos", f"**/{name}")).convert("RGB")
        side = min(image.size)
        left, top = (image.size[0] - side) // 2, (image.size[1] - side) // 2
        pixels = np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224)), np.float32)
        with torch.no_grad():
            y = model(torch.from_numpy((pixels.transpose(2, 0, 1) - 127) / 128)[None])
        assert int(y.argmax()) in classes


@cached("minilm-l6")
def test_minilm_knows_what_is_related():
    pytest.importorskip("tokenizers")
    from mcc.passes.data.text import encode

    texts = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    codes = encode(texts, fetch.find("minilm-l6", "**/tokenizer.json"), 16)
    with torch.no_grad():
        e = zoo.minilm(pretrained=True)(*(torch.from_numpy(codes[k]) for k in ("input_ids", "attention_mask")))
    near, far = float(e[0] @ e[1]), float(e[0] @ e[2])
    assert near == pytest.approx(0.755, abs=0.01) and far < 0


@cached("digit-recognizer")
@cached("mnist-digits")
def test_digit_recognizer_reads_digits():
    model, right, data = zoo.digit_recognizer(pretrained=True).eval(), 0, open_data({"source": "mnist", "limit": {"test": 500}})
    with torch.no_grad():
        for x, y in data.batches("test", 250):
            right += int((model(x["x"]).argmax(1) == y).sum())
    assert right >= 490
