"""The chart of the arena: one SVG from build/bench/results.json.

    python tests/bench/chart.py [RESULTS.json] [-o tests/bench/chart.svg]

A row is a network, a mark is a runtime: its time over mcc's, on a logarithmic axis. Right of the line at 1 mcc is faster,
left of it the peer is; every row's fastest peer is ringed, red where it beats mcc. Written by hand as SVG, so that it needs no
package and follows the reader's light or dark background.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import results

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"onnxruntime": "#1f77b4", "openvino": "#9467bd", "ncnn": "#2ca02c", "mnn": "#e377c2", "litert": "#ff7f0e",
           "executorch": "#8c6d31"}
PANELS = (("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2))
TICKS = (0.25, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)
ROW, WIDE, LEFT, TOP, GAP = 19, 330, 128, 74, 26
STYLE = """
text{font:11px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#24292f}
.title{font-size:14px;font-weight:600}.small{font-size:10px}.mild{fill:#57606a}.win{fill:#1a7f37}.loss{fill:#cf222e}
.grid{stroke:#d0d7de;stroke-width:1}.one{stroke:#24292f;stroke-width:1.5}.ring{fill:none;stroke:#1a7f37;stroke-width:1.5}
.lost{stroke:#cf222e}.band{fill:#cf222e;opacity:.06}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.mild{fill:#9198a1}.grid{stroke:#3d444d}.one{stroke:#e6edf3}
.win{fill:#3fb950}.loss{fill:#f85149}.ring{stroke:#3fb950}.lost{stroke:#f85149}.band{fill:#f85149;opacity:.12}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "build" / "bench" / "results.json")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).resolve().parent / "chart.svg")
    options = parser.parse_args()
    options.output.write_text(draw(json.loads(options.results.read_text())))


def draw(found: dict) -> str:
    rows = results.cells(found)
    names = results.networks(found, real=False)
    panels = [p for p in PANELS if any((n, *p) in rows for n in names)]
    columns = sorted({t for _, t in panels})
    kinds = list(dict.fromkeys(p for p, _ in panels))
    low, high = _range(rows, names, panels)
    height = TOP + len(kinds) * (len(names) * ROW + 2 * GAP + 14) + 8
    width = LEFT + len(columns) * (WIDE + 64) + 8
    made = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img" aria-label="Times of other runtimes over mcc\'s, by network">', f"<style>{STYLE}</style>",
            _text(8, 18, "Time of other runtimes / time of mcc", "title"),
            _text(8, 35, f"right of 1: mcc is faster; ringed: the fastest peer of the row, red where it beats mcc. "
                         f"{found['machine'].get('cpu', '')}, {found['machine'].get('date', '')}", "mild")]
    x = 8.0
    for name in [n for n in COLOURS if any(n in of for of in rows.values())]:
        made += [_mark(x + 5, 51, name), _text(x + 14, 55, name)]
        x += 26 + 6.3 * len(name)
    for i, kind in enumerate(kinds):
        for j, threads in enumerate(columns):
            top = TOP + i * (len(names) * ROW + 2 * GAP + 14) + GAP
            made += _panel(rows, names, kind, threads, LEFT + j * (WIDE + 64), top, low, high, labels=j == 0)
    return "\n".join([*made, "</svg>\n"])


def _range(rows: dict, names: list[str], panels: list[tuple]) -> tuple[float, float]:
    ratios = [r["ratio"] for n in names for p in panels for r in rows.get((n, *p), {}).values() if "ratio" in r] or [1.0]
    return min(0.66, min(ratios) / 1.1), max(1.6, min(max(ratios) * 1.1, 30.0))


def _panel(rows: dict, names: list[str], kind: str, threads: int, left: float, top: float, low: float, high: float,
           labels: bool) -> list[str]:
    def at(ratio: float) -> float:
        return left + WIDE * math.log(min(max(ratio, low), high) / low) / math.log(high / low)

    bottom = top + len(names) * ROW
    title = f"{'float32' if kind == 'fp32' else kind}, {threads} thread{'s' * (threads > 1)}"
    made = [_text(left, top - 8, title, "title"),
            f'<rect class="band" x="{left:.1f}" y="{top}" width="{at(1) - left:.1f}" height="{bottom - top}"/>']
    for tick in TICKS:
        if low <= tick <= high:
            style, x = "one" if tick == 1 else "grid", at(tick)
            made += [f'<line class="{style}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>',
                     _text(at(tick), bottom + 13, f"{tick:g}", "small mild", "middle")]
    for i, name in enumerate(names):
        y = top + i * ROW + ROW / 2
        if labels:
            made.append(_text(left - 8, y + 4, name, "", "end"))
        of = rows.get((name, kind, threads), {})
        able = {r: row for r, row in of.items() if "ratio" in row}
        for runtime, row in sorted(able.items(), key=lambda item: -item[1]["ratio"]):
            says = f"{name}, {runtime}: {row['median']:.3f} ms, {row['ratio']:.2f}x mcc"
            made.append(_mark(at(row["ratio"]), y, runtime, says))
        if (b := results.best(of)) is not None:
            lost = b["ratio"] < 1
            made += [f'<circle class="ring{" lost" * lost}" cx="{at(b["ratio"]):.1f}" cy="{y}" r="7"/>',
                     _text(left + WIDE + 6, y + 4, f"{b['ratio']:.2f}", "loss" if lost else "win")]
        elif of:
            made.append(_text(left + WIDE + 6, y + 4, "no peer" if "median" in of.get("mcc", {}) else "no mcc", "small mild"))
    return made


def _mark(x: float, y: float, runtime: str, says: str = "") -> str:
    title = f"<title>{says}</title>" if says else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{COLOURS[runtime]}">{title}</circle>'


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    main()
