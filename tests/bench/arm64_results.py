"""The counts of arm64_compare.py as Markdown: targets, a table for each precision and core, what has no count."""
from __future__ import annotations

import statistics
from pathlib import Path

import results

BEGIN, END = "<!-- arm64: written by make bench-arm64 -->", "<!-- arm64: end -->"
# MobileNetV2's millions of instructions by precision and core.
TARGETS = {("fp32", "arm64-cortex-a76"): 95, ("fp16", "arm64-cortex-a76"): 52, ("int8", "arm64-cortex-a76"): 44,
           ("int8", "arm64-cortex-a710"): 38, ("fp32", "arm64-cortex-a53"): 110, ("int8", "arm64-cortex-a53"): 105}
PEERS = ("onnxruntime", "ncnn", "mnn", "litert")


def cells(found: dict) -> dict[tuple, dict[str, dict]]:
    """(precision, core, network) -> of each runtime the variant with the fewest instructions among those that are right; else
    one that says why there is none."""
    made: dict[tuple, dict[str, dict]] = {}
    for row in found["rows"].values():
        at = made.setdefault((row["precision"], row["core"], row["network"]), {})
        before = at.get(row["runtime"])
        if before is None or _rank(row) < _rank(before):
            at[row["runtime"]] = row
    return made


def _rank(row: dict) -> tuple:
    return not able(row), row.get("instructions", 0)


def able(row: dict | None) -> bool:
    return bool(row) and row.get("ok", False)


def best(rows: dict[str, dict], what: str = "instructions") -> dict | None:
    """The peer with the fewest, when mcc has a count too."""
    peers = [r for name, r in rows.items() if name != "mcc" and able(r)]
    return min(peers, key=lambda r: r[what]) if peers and able(rows.get("mcc")) else None


def markdown(found: dict) -> str:
    some = cells(found)
    parts = [_head(found), _targets(some), _means(some)]
    parts += [_table(some, precision, core) for precision, core in dict.fromkeys(k[:2] for k in some)]
    return "\n\n".join(p for p in [*parts, _failures(found)] if p) + "\n"


def replace_section(path: Path, text: str) -> None:
    results.replace_section(path, text, BEGIN, END)


def progress(row: dict) -> str:
    said = f"{row['instructions'] / 1e6:.1f} M, {wrong(row) or 'right'}" if "instructions" in row else row["error"]
    return f"{row['id']}: {said}"


def wrong(row: dict) -> str:
    if row["ok"]:
        return ""
    return "wrong output: " + ("no number or another shape" if row["value"] is None else f"{row['check']} {row['value']:.3g}")


def _head(found: dict) -> str:
    versions = {r["runtime"]: r["version"] for r in found["rows"].values() if r.get("version")}
    return ("## arm64: instructions of an inference, mcc and its peers\n\n"
            "Millions, counted under qemu-user, one thread, batch 1, each runtime told that it runs on the named core; `d`: the "
            "dynamic int8 variant took fewer. A ratio is the best peer's count over mcc's: above 1 mcc needs fewer. Mcycles are "
            "estimates, the same model for all (core-bound, no cache misses): mcc / the peer with the fewest. Outputs "
            f"are checked as in the arena above. mcc built with {found['compiler']}; "
            f"{', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}.")


def _targets(some: dict) -> str:
    lines = ["| MobileNetV2 | core | mcc | wanted | | best peer |", "|---" * 6 + "|"]
    for (precision, core), wanted in TARGETS.items():
        rows = some.get((precision, core, "mobilenet_v2"), {})
        if able(mine := rows.get("mcc")):
            peer, mine = best(rows), mine["instructions"] / 1e6
            said = f"{peer['instructions'] / 1e6:.1f} {peer['runtime']}" if peer else "none"
            lines.append(f"| {precision} | {core} | {mine:.1f} | {wanted} | {'met' if mine <= wanted else 'not met'} | {said} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _means(some: dict) -> str:
    lines = ["| precision | core | networks | fewer than every peer | geometric mean of the ratios | of the cycles' |",
             "|---" * 6 + "|"]
    for precision, core in dict.fromkeys(k[:2] for k in some):
        found = {n: (rows, b) for (p, c, n), rows in some.items() if (p, c) == (precision, core) and (b := best(rows))}
        if found:
            ratios = {n: b["instructions"] / rows["mcc"]["instructions"] for n, (rows, b) in found.items()}
            cycles = [best(rows, "cycles")["cycles"] / rows["mcc"]["cycles"] for rows, _ in found.values()]
            lost = ", ".join(f"{n} {r:.2f}" for n, r in ratios.items() if r <= 1)
            fewer = f"{sum(r > 1 for r in ratios.values())}{f'; not: {lost}' if lost else ''}"
            lines.append(f"| {precision} | {core} | {len(ratios)} | {fewer} | {statistics.geometric_mean(ratios.values()):.2f} | "
                         f"{statistics.geometric_mean(cycles):.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _table(some: dict, precision: str, core: str) -> str:
    found = {n: rows for (p, c, n), rows in some.items() if (p, c) == (precision, core)}
    peers = [p for p in PEERS if any(p in rows for rows in found.values())]
    lines = [f"### {precision} on {core}", "", f"| network | mcc | ratio | {' | '.join(peers)} | Mcycles |",
             "|---" * (len(peers) + 4) + "|"]
    for name, rows in found.items():
        peer, fastest = best(rows), best(rows, "cycles")
        ratio = f"{peer['instructions'] / rows['mcc']['instructions']:.2f}" if peer else ""
        cycles = f"{rows['mcc']['cycles'] / 1e6:.1f} / {fastest['cycles'] / 1e6:.1f} {fastest['runtime']}" if fastest else ""
        theirs = " | ".join(_cell(rows.get(p), rows.get(p) is peer) for p in peers)
        lines.append(f"| {name} | {_cell(rows.get('mcc'))} | {ratio} | {theirs} | {cycles} |")
    return "\n".join(lines)


def _cell(row: dict | None, most: bool = False) -> str:
    if not able(row):
        return "-" if row is None else "none" if "error" in row else "wrong"
    text = f"{row['instructions'] / 1e6:.1f}{' d' if row['variant'] == 'dynamic' else ''}"
    return f"**{text}**" if most else text


def _failures(found: dict) -> str:
    lines = [f"- {r['id']}: {r['error'] if 'error' in r else wrong(r)}" for r in found["rows"].values() if not able(r)]
    return "\n".join(["### Without a count, or with another output", "", *lines]) if lines else ""
