"""What people see: tables and progress, pretty on a terminal and plain when piped. The only file that imports rich."""
from __future__ import annotations

import contextlib
import json
import sys
import time

import click


def json_option(f):
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there.")(f)


def emit(document: dict | list) -> None:
    """The one JSON document of a command."""
    print(json.dumps(document, indent=1))


def note(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def table(columns: list[str], rows: list[list], title: str = "", left: tuple[int, ...] = (0,), out=None) -> None:
    """Rows of text; the columns in `left` are left-aligned, the rest right."""
    out = out or sys.stdout
    cells = [[str(c) for c in row] for row in rows]
    if out.isatty():
        from rich.console import Console
        from rich.table import Table
        made = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for i, c in enumerate(columns):
            made.add_column(c, justify="left" if i in left else "right", overflow="fold")
        for row in cells:
            made.add_row(*(c.replace("[", "\\[") for c in row))
        Console(file=out, highlight=False).print(made)
        return
    widths = [max(len(r[i]) for r in [columns, *cells]) for i in range(len(columns))]
    if title:
        print(title, file=out)
    for row in [columns, *cells]:
        print("  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip(), file=out)


class Progress:
    """One bar on a terminal's stderr; elsewhere a line every ten seconds."""

    def __init__(self):
        self.bar = self.task = None
        self.last = time.monotonic()

    def __call__(self, done: int, total: int, text: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=max(total, 1), description=text)
            return
        if time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            note(f"  {text} ({done / max(total, 1):.0%})")


@contextlib.contextmanager
def progress():
    """A Progress to call as progress(done, total, text) while long work goes on."""
    made = Progress()
    if not sys.stderr.isatty():
        yield made
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    with Bar(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
             console=Console(stderr=True), transient=True) as bar:
        made.bar, made.task = bar, bar.add_task("", total=1)
        yield made


def size(n: float | None) -> str:
    """Bytes for people."""
    if n is None:
        return "-"
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 100 else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def count(n: float | None) -> str:
    """A count for people: 431 k, 2.29 M."""
    if n is None:
        return "-"
    for unit in ("", " k", " M", " G"):
        if n < 1000:
            return f"{n:.0f}{unit}" if not unit or n >= 100 else f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} T"


def ms(t: float | None) -> str:
    return "-" if t is None else f"{t:.3g} ms" if t < 1000 else f"{t / 1000:.3g} s"
