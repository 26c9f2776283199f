"""The arena's tables and chart, from figures made up here; measuring itself is `make bench`."""
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def row(network, runtime, median, ratio=None, precision="fp32", threads=1, **more):
    made = {"network": network, "runtime": runtime, "precision": precision, "threads": threads, "variant": "", "median": median,
            "p10": median, "p90": median, "bytes": 10**6}
    if ratio:
        made |= {"ratio": ratio, "ratios": [ratio], "ratio_p10": ratio, "ratio_p90": ratio}
    return made | more


FOUND = {"schema": 1, "machine": {"cpu": "a CPU", "cores": 2, "isa": "c", "peak": {"f32": 100.0, "s8": 400.0, "copy": 10.0},
                                  "commit": "abc", "date": "2026-11-23"}, "versions": {"ncnn": "1"}, "cold": [],
         "rows": [row("mobilenet_v2", "mcc", 10.0), row("mobilenet_v2", "ncnn", 12.0, 1.2), row("mobilenet_v2", "mnn", 20.0, 2.0),
                  row("mlp", "mcc", 1.0), row("mlp", "ncnn", 0.97, 0.97, ratios=[0.97, 0.98, 0.96]),
                  {"network": "mlp", "runtime": "mnn", "precision": "fp32", "threads": 1, "variant": "",
                   "error": "not converted: x"}]}


def test_tables(bench):
    import results
    text = results.markdown(FOUND)
    assert "| fp32, 1 thread | 2 | 1 | 1 | 0 | 1.08 | 1.15 | not met |" in text
    assert "| mobilenet_v2 fp32, percent of the peak | 60 % | 75 % | not met |" in text
    assert "1.20 ncnn (1.20, 1.20) | met |" in text and "| tie |" in text
    assert "| mnn | fp32 | mlp | not converted: x |" in text


def test_only_its_section_is_written(bench, tmp_path):
    import results
    page = tmp_path / "RESULTS.md"
    page.write_text("# Mine\n\nkept\n")
    results.replace_section(page, "one\n")
    page.write_text(page.read_text() + "\nafter\n")
    results.replace_section(page, "two\n")
    assert page.read_text() == f"# Mine\n\nkept\n\n{results.BEGIN}\ntwo\n{results.END}\nafter\n"


def test_chart_is_xml(bench):
    import chart
    drawn = xml.fromstring(chart.draw(FOUND))
    marks = [c for c in drawn.iter("{http://www.w3.org/2000/svg}circle") if c.get("class") is None]
    assert len(marks) >= 3 and any("ring lost" in c.get("class", "") for c in drawn.iter("{http://www.w3.org/2000/svg}circle"))


def test_agreement(bench):
    import compare
    x = np.random.default_rng(0).standard_normal(100)
    assert compare.agreement("fp32", [x], [x + 1e-5])["ok"] and not compare.agreement("fp32", [x], [x + 1e-1])["ok"]
    assert compare.agreement("int8", [x], [2 * x])["ok"] and not compare.agreement("int8", [x], [x[::-1].copy()])["ok"]
    assert not compare.agreement("int8", [x], [x * np.nan])["ok"] and not compare.agreement("int8", [x], [x[:9]])["ok"]


def test_gate_of_arm64_counts(bench):
    """Half a percent more is the record's, beyond it fails and names the kernel that grew; fewer is only said; another compiler
    has its own tolerance; a row that is not on record fails."""
    import arm64_gate
    counts = {"all": 1_000_000, "gemm": 700_000, "pool": 300_000}
    record = {"compiler": "gcc 1", "instructions": {"net fp32": {"cortex-a53": counts}}}

    def compare(total, gemm, compiler="gcc 1", name="net fp32"):
        return arm64_gate.compare(record, {name: {"cortex-a53": {"all": total, "gemm": gemm, "pool": total - gemm}}}, compiler)
    assert compare(1_000_000, 700_000) == compare(1_004_900, 704_900) == compare(995_100, 695_100) == ([], [])
    (line,), _ = compare(1_006_000, 706_000)
    assert line.startswith("net fp32 on cortex-a53: 1.01 M instructions") and line.endswith("most in gemm: 0.70 M -> 0.71 M")
    worse, (line,) = compare(990_000, 690_000)
    assert not worse and "record-arm64" in line
    worse, (line,) = compare(1_050_000, 750_000, "gcc 2")
    assert not worse and "gcc 2" in line
    assert len(compare(1_150_000, 850_000, "gcc 2")[0]) == 1
    assert compare(1, 1, name="new fp32")[0] == ["new fp32 on cortex-a53 is not on record; make record-arm64"]
    recorded = arm64_gate.json.loads(arm64_gate.RECORD.read_text())["instructions"]
    names = {*arm64_gate.LAYERS, *(f"{n} {p}" for n in arm64_gate.NETWORKS for p in ("fp32", "fp16-math", "int8"))}
    assert {*recorded} == names


def counted(network, runtime, instructions, variant="", precision="fp32", **more):
    made = {"id": f"{network} {runtime}", "network": network, "runtime": runtime, "precision": precision,
            "core": "arm64-cortex-a76", "variant": variant, "ok": True, "check": "error", "value": 0.0, "version": "1",
            "instructions": instructions, "cycles": instructions / 2}
    return {" ".join((network, precision, runtime, variant)): made | more}


ARM64 = {"schema": 1, "compiler": "gcc 12", "rows": {
    **counted("mobilenet_v2", "mcc", 90e6), **counted("mobilenet_v2", "litert", 120e6), **counted("mobilenet_v2", "ncnn", 100e6),
    **counted("mobilenet_v2", "mcc", 50e6, "static", "int8"),
    **counted("mobilenet_v2", "mcc", 45e6, "dynamic", "int8", ok=False, value=0.5),
    **counted("mobilenet_v2", "litert", 49e6, "static", "int8"), **counted("mobilenet_v2", "litert", 48e6, "dynamic", "int8"),
    **counted("resnet18", "mcc", 10e6), **counted("resnet18", "ncnn", 9e6, ok=False, value=0.2),
    "resnet18 mnn": {"id": "resnet18 mnn", "network": "resnet18", "runtime": "mnn", "precision": "fp32", "variant": "",
                     "core": "arm64-cortex-a76", "error": "not converted: x"}}}


def test_counts_of_arm64(bench):
    """The fewest of right outputs counts, for mcc as for peers; a wrong output is no rival and is named."""
    import arm64_results
    text = arm64_results.markdown(ARM64)
    assert "| fp32 | arm64-cortex-a76 | 90.0 | 95 | met | 100.0 ncnn |" in text
    assert "| int8 | arm64-cortex-a76 | 50.0 | 44 | not met | 48.0 litert |" in text
    assert "| int8 | arm64-cortex-a76 | 1 | 0; not: mobilenet_v2 0.96 | 0.96 |" in text
    assert "| mobilenet_v2 | 90.0 | 1.11 | **100.0** | - | 120.0 | 45.0 / 50.0 ncnn |" in text
    assert "- resnet18 mnn: not converted: x" in text and "- resnet18 ncnn: wrong output: error 0.2" in text
    assert "| resnet18 | 10.0 |  | wrong | none | - |  |" in text
