"""The arena's figures as Markdown: the targets first, then every cell, then what could not be measured and why."""
from __future__ import annotations

import statistics
from pathlib import Path

BEGIN, END = "<!-- arena: written by make bench -->", "<!-- arena: end -->"
# Precision and threads -> what the geometric mean over the networks must reach.
TARGETS = {("fp32", 1): 1.15, ("fp32", 2): 1.15, ("int8", 1): 1.30, ("int8", 2): 1.30, ("bf16", 1): 1.10, ("bf16", 2): 1.10}
PEAK = (("mobilenet_v1", "fp32", 85), ("mobilenet_v2", "fp32", 75), ("resnet50", "int8", 75), ("mobilenet_v1", "int8", 60),
        ("mobilenet_v2", "int8", 50))
TWO_THREADS = (("resnet50", 1.8), ("bert_base", 1.8), ("mobilenet_v1", 1.6))
INT8_SPEEDUP = 2.3


def cells(found: dict) -> dict[tuple, dict[str, dict]]:
    """(network, precision, threads) -> rows by runtime."""
    made: dict[tuple, dict[str, dict]] = {}
    for row in found["rows"]:
        made.setdefault((row["network"], row["precision"], row["threads"]), {})[row["runtime"]] = row
    return made


def best(rows: dict[str, dict]) -> dict | None:
    """The fastest peer with correct output, when mcc ran too."""
    able = [r for name, r in rows.items() if name != "mcc" and "ratio" in r]
    return min(able, key=lambda r: r["ratio"]) if able and "median" in rows.get("mcc", {}) else None


def verdict(row: dict) -> str:
    """met, tie (0.95 to 1 in three runs) or not met."""
    if row["ratio"] >= 1:
        return "met"
    return "tie" if len(row["ratios"]) >= 3 and min(row["ratios"]) >= 0.95 else "not met"


def networks(found: dict, real: bool | None = None) -> list[str]:
    seen = dict.fromkeys(r["network"] for r in found["rows"])
    return [n for n in seen if real is None or n.startswith("real/") == real]


def progress(rows: list[dict]) -> str:
    first = rows[0]
    text = [f"{r['runtime']} {r['median']:.3f}" + (f" ({r['ratio']:.2f}x)" if "ratio" in r else "") if "median" in r
            else f"{r['runtime']}: {r['error'][:60]}" for r in rows]
    return f"{first['network']} {first['precision']} {first['threads']}T: " + ", ".join(text)


def markdown(found: dict) -> str:
    rows = cells(found)
    parts = [_machine(found), _targets(found, rows), _others(found, rows)]
    for precision, title in (("fp32", "float32"), ("int8", "int8"), ("bf16", "bfloat16"), ("avx2", "float32, AVX2 only")):
        for threads in sorted({k[2] for k in rows}):
            parts.append(_table(found, rows, precision, threads, title))
    parts += [_sizes(found, rows), _cold(found), _failures(found)]
    return "\n\n".join(p for p in parts if p) + "\n"


def replace_section(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Puts the text between the marker lines of a file; at its end when it has none."""
    old = path.read_text()
    section = f"{begin}\n{text}{end}\n"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        path.write_text(head + section + rest.split(end, 1)[1].lstrip("\n"))
    else:
        path.write_text(old.rstrip("\n") + "\n\n" + section)


def _machine(found: dict) -> str:
    m = found["machine"]
    if not m:
        return ""
    peak = m["peak"]
    runtimes = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    return (f"## The arena, {m['date']}\n\n{m['cpu']}, {m['cores']} cores, `{m['isa']}`; measured peak of a thread "
            f"{peak['f32']:.0f} GFLOP/s float32, {peak['s8']:.0f} GOP/s int8, copy {peak['copy']:.1f} GB/s. "
            f"mcc {m['commit']}; {runtimes}.\n\n"
            "Milliseconds are medians of interleaved bursts (p10 to p90 for mcc); batch 1, inputs set once. A ratio is the "
            "peer's time over mcc's: above 1 mcc is faster. float32 outputs agree to 1e-3 of their range with onnxruntime's; "
            "int8 outputs correlate with its float32 outputs by at least 0.95, bfloat16 by 0.99. int8 is the faster of static "
            "and dynamic (d) with correct output, for mcc too.")


def _targets(found: dict, rows: dict) -> str:
    lines = ["### Targets", "", "| cell | networks | met | tie | not met | geometric mean | wanted | |", "|---" * 8 + "|"]
    for (precision, threads), wanted in TARGETS.items():
        some = [r for (n, p, t), r in rows.items() if (p, t) == (precision, threads) and not n.startswith("real/")]
        peers = [b for r in some if (b := best(r))]
        if not peers:
            continue
        said = [verdict(b) for b in peers]
        mean = statistics.geometric_mean(b["ratio"] for b in peers)
        lost = ", ".join(f"{b['network']} {b['ratio']:.2f}" for b, s in zip(peers, said) if s == "not met")
        lines.append(f"| {precision}, {threads} thread{'s' * (threads > 1)} | {len(peers)} | {said.count('met')} | "
                     f"{said.count('tie')} | {said.count('not met')}{f': {lost}' if lost else ''} | {mean:.2f} | {wanted:.2f} | "
                     f"{'met' if mean >= wanted and 'not met' not in said else 'not met'} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def _others(found: dict, rows: dict) -> str:
    """int8 against float32, percent of the peak, two threads against one, AVX2 only."""
    def median(network, precision, threads):
        return rows.get((network, precision, threads), {}).get("mcc", {}).get("median")

    lines = ["| target | measured | wanted | |", "|---|---|---|---|"]

    def add(what, value, text, wanted, ok):
        if value:
            lines.append(f"| {what} | {text} | {wanted} | {'met' if ok else 'not met'} |")

    gains = {n: a / b for n in networks(found, False) if (a := median(n, "fp32", 1)) and (b := median(n, "int8", 1))}
    if gains:
        mean = statistics.geometric_mean(gains.values())
        slow = [n for n, g in gains.items() if g < 1]
        add("mcc int8 over mcc fp32, 1 thread", mean, f"{mean:.2f}x" + (f"; slower: {', '.join(slow)}" if slow else ""),
            f"{INT8_SPEEDUP}x", mean >= INT8_SPEEDUP and not slow)
    peak = found["machine"].get("peak", {})
    for network, precision, wanted in PEAK:
        t, macs = median(network, precision, 1), _macs(network)
        if t and macs and peak:
            share = 2 * macs / t / 1e6 / peak["f32" if precision == "fp32" else "s8"] * 100
            add(f"{network} {precision}, percent of the peak", share, f"{share:.0f} %", f"{wanted} %", share >= wanted)
    for network, wanted in TWO_THREADS:
        one, two = median(network, "fp32", 1), median(network, "fp32", 2)
        if one and two:
            add(f"{network} fp32, two threads over one", one / two, f"{one / two:.2f}x", f"{wanted}x", one / two >= wanted)
    for (network, precision, threads), some in rows.items():
        if precision == "avx2" and (b := best(some)):
            what = f"{network} fp32 AVX2 only, {threads}T, against {b['runtime']}"
            add(what, b["ratio"], f"{b['ratio']:.2f}", "1.0", b["ratio"] >= 1)
    return "\n".join(lines) if len(lines) > 2 else ""


def _macs(network: str) -> float | None:
    import models
    model = models.MODELS.get(network)
    return model.macs * 1e6 if model and model.macs else None


def _table(found: dict, rows: dict, precision: str, threads: int, title: str) -> str:
    some = {n: rows[n, precision, threads] for n in networks(found) if (n, precision, threads) in rows}
    if not some:
        return ""
    runtimes = [r for r in dict.fromkeys(row["runtime"] for row in found["rows"]) if r != "mcc"]
    runtimes = [r for r in runtimes if any("median" in rows_.get(r, {}) for rows_ in some.values())]
    lines = [f"### {title}, {threads} thread{'s' * (threads > 1)}: ms", "",
             f"| network | mcc (p10, p90) | {' | '.join(runtimes)} | best peer / mcc | |", "|---" * (len(runtimes) + 4) + "|"]
    for name, of in some.items():
        mine = of["mcc"]
        cell = (f"{mine['median']:.3f} ({mine['p10']:.3f}, {mine['p90']:.3f})" + " d" * (mine["variant"] == "dynamic")
                if "median" in mine else "-")
        theirs = [f"{r['median']:.3f}" + " d" * (r["variant"] == "dynamic") if "median" in (r := of.get(x, {})) else "-"
                  for x in runtimes]
        b = best(of)
        end = f"{b['ratio']:.2f} {b['runtime']} ({b['ratio_p10']:.2f}, {b['ratio_p90']:.2f}) | {verdict(b)}" if b else "- | -"
        lines.append(f"| {name} | {cell} | {' | '.join(theirs)} | {end} |")
    return "\n".join(lines)


def _sizes(found: dict, rows: dict) -> str:
    runtimes = list(dict.fromkeys(row["runtime"] for row in found["rows"]))
    lines = ["### Files, MB", "", f"| network | precision | {' | '.join(runtimes)} |", "|---" * (len(runtimes) + 2) + "|"]
    for name in networks(found):
        for precision in ("fp32", "int8"):
            of = next((rows[name, precision, t] for t in (1, 2) if (name, precision, t) in rows), {})
            if of:
                cell = [f"{of[r]['bytes'] / 1e6:.3g}" if "bytes" in of.get(r, {}) else "-" for r in runtimes]
                lines.append(f"| {name} | {precision} | {' | '.join(cell)} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def _cold(found: dict) -> str:
    if not found["cold"]:
        return ""
    lines = ["### From the start of a process to its first output", "",
             "mcc through `mcc-run`; the others in Python, whose own start (some 20 ms and 10 MB) is in their figures. Wanted: "
             "mcc at most 15 ms on MobileNetV2 fp32 and a fifth of the best peer's; memory at most file + arena + 4 MB.", "",
             "| network | precision | runtime | ms | peak memory, MB | |", "|---|---|---|---|---|---|"]
    for row in found["cold"]:
        if "error" in row:
            lines.append(f"| {row['network']} | {row['precision']} | {row['runtime']} | - | - | {row['error'][:120]} |")
            continue
        note = ""
        if row["runtime"] == "mcc":
            same = [r for r in found["cold"] if (r["network"], r["precision"]) == (row["network"], row["precision"])]
            peers = [r["cold_start_ms"] for r in same if r["runtime"] != "mcc" and "cold_start_ms" in r]
            limit = row["bytes"] + row["arena_bytes"] + (4 << 20)
            note = f"best peer {min(peers) / row['cold_start_ms']:.1f}x slower; " if peers else ""
            if row.get("peak_rss_bytes"):
                note += f"limit {limit / 1e6:.1f} MB {'met' if row['peak_rss_bytes'] <= limit else 'not met'}"
        memory = f"{row['peak_rss_bytes'] / 1e6:.1f}" if row.get("peak_rss_bytes") else "-"
        lines.append(f"| {row['network']} | {row['precision']} | {row['runtime']} | {row['cold_start_ms']:.1f} | {memory} | "
                     f"{note} |")
    return "\n".join(lines)


def _failures(found: dict) -> str:
    """What has no time, once per network, runtime and precision."""
    seen = {}
    for r in found["rows"]:
        if "error" in r:
            seen.setdefault((r["runtime"], r["precision"], r["error"].replace("|", "/")[:160]), []).append(r["network"])
        for variant, why in r.get("refused", {}).items():
            seen.setdefault((f"{r['runtime']} {variant}", r["precision"], why.replace("|", "/")[:160]), []).append(r["network"])
    lines = ["### Not measured", "", "| runtime | precision | networks | why |", "|---|---|---|---|"]
    for (runtime, precision, why), names in sorted(seen.items()):
        lines.append(f"| {runtime} | {precision} | {', '.join(dict.fromkeys(names))} | {why} |")
    return "\n".join(lines) if len(lines) > 4 else ""
