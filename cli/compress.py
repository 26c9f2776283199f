"""`mcc compress`: run a recipe."""
from __future__ import annotations

import click

from . import show
from .recipes import locate


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change the recipe: passes.0.prune.weights.sparsity=0.9")
@click.option("--unset", "unsets", multiple=True, metavar="KEY", help="Take a key out of the recipe.")
@click.option("-o", "--output", metavar="DIR", help="Where results go, instead of the recipe's `output:`.")
@click.option("--resume/--fresh", default=True, help="Go on from finished passes of earlier runs (default), or forget them.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan, without training.")
@click.option("--nproc", default=1, type=click.IntRange(1, 256), metavar="N",
              help="Train in N processes that share every batch. (Under torchrun, which starts them itself, leave it out.)")
@show.json_option
def command(recipe, sets, unsets, output, resume, dry_run, nproc, as_json):
    """Compress a network as RECIPE says: a .yaml file, or the name of one that ships (see `mcc recipes ls`).

    Leaves model.mcc, report.json, recipe.yaml and log.txt in the output folder. Exit code 1 when one of the recipe's
    `expect:` rules does not hold."""
    if nproc > 1 and not dry_run:
        from . import together
        more = [x for k in sets for x in ("--set", k)] + [x for k in unsets for x in ("--unset", k)]
        more += ["--output", output] * bool(output) + ["--fresh"] * (not resume) + ["--json"] * as_json
        return together.run(["compress", recipe, *more], nproc)
    from ..passes import pipeline, ranks
    from ..passes.recipe import read
    made = read(locate(recipe), sets, unsets, output)
    if dry_run:
        _plan(pipeline.plan(made), as_json)
        return 0
    from .engine import for_recipe
    ranks.start()
    with show.progress() as progress:
        report = pipeline.run(made, for_recipe(made), resume, progress, show.note)
    first, several = ranks.first(), ranks.count() > 1
    ranks.stop()
    if first:  # what there is to say, and a gate that failed, is the first process's
        (show.emit if as_json else _report)(report)
    code = 0 if report["ok"] or not first else 1
    if several:
        ranks.leave(code)
    return code


def _plan(plan: dict, as_json: bool) -> None:
    if as_json:
        show.emit(plan)
        return
    first = plan["original"]
    rows = [["original" + (" (is trained first)" if plan["train"] else ""), "", show.count(first["params"]),
             show.count(first["macs"]), show.size(first["bytes"]), ""]]
    for i, s in enumerate(plan["stages"], 1):
        if "bytes" in s:
            figures = [show.count(s["nonzero"]), show.count(s["macs"]), show.size(s["bytes"]),
                       f"{first['bytes'] / s['bytes']:.3g}x"]
        else:
            figures = ["?", "?", "?", "?"]
        rows.append([f"{i} {s['pass']}", str(len(s.get("layers", [])) or "?"), *figures])
    show.table(["pass", "layers", "nonzero", "MACs", "bytes", "smaller"], rows)
    for i, s in enumerate(plan["stages"], 1):
        if "layers" in s:
            more = f" and {len(s['layers']) - 12} more" if len(s["layers"]) > 12 else ""
            print(f"{i} {s['pass']}: {', '.join(s['layers'][:12])}{more}")
        if "unknown" in s:
            print(f"{i} {s['pass']}: {s['unknown']}")
    print("bytes and MACs are those of the untrained passes; nothing was trained or written")


def _report(report: dict) -> None:
    first, metric = report["original"], report["metric"]
    rows = [["original", *_figures(first, first, metric)]]
    for i, s in enumerate(report["stages"], 1):
        rows.append([f"{i} {s['pass']}{' (undone)' if s.get('undone') else ''}", *_figures(s, first, metric)])
    final = report["final"]
    rows.append(["model.mcc", *_figures(final, first, metric)])
    columns = ["", "params", "nonzero", "MACs", "bytes", "smaller", "latency", "faster"]
    show.table(columns + ([metric["name"], "difference (95 %)"] if metric else []) + ["seconds"], rows)
    for g in report["expect"]:
        value = "not measured" if g["value"] is None else f"{g['value']:.6g}"
        bound = "" if g.get("bound") is None else f" (bound {g['bound']:.6g})"
        print(f"{'ok  ' if g['ok'] else 'FAIL'} {g['rule']}: {value}{bound}")
    for w in report["warnings"]:
        print(f"note: {w}")
    print(f"written: {final['path']}")


def _figures(s: dict, first: dict, metric: dict | None) -> list[str]:
    made = [show.count(s["params"]), show.count(s["nonzero"]), show.count(s["macs"]), show.size(s["bytes"]),
            f"{first['bytes'] / s['bytes']:.3g}x", show.ms(s.get("latency_ms")),
            f"{first['latency_ms'] / s['latency_ms']:.3g}x" if s.get("latency_ms") and first.get("latency_ms") else "-"]
    if metric:
        made.append(f"{s['metric']:.4f}")
        d, ci = s.get("difference"), s.get("difference_ci95")
        made.append("" if d is None else f"{d:+.4f} [{_bound(ci[0])}, {_bound(ci[1])}]")
    return [*made, f"{s['seconds']:.1f}" if s.get("seconds") is not None else ""]


def _bound(x: float | None) -> str:
    return "?" if x is None else f"{x:+.4f}"
