"""The command `mcc`. Thin: each command is one file, imported when it is called, so `mcc --help` answers at once.

Text is for people, `--json` puts one JSON document on stdout, progress and complaints go to stderr. Exit codes:
0 done, 1 a gate failed, 2 the input is wrong, 3 a pass failed or was stopped, 4 the target cannot be reached, 70 a bug.
"""
from __future__ import annotations

import sys
from importlib import import_module

import click

from ..passes.errors import PassFailed, TargetError, UserError

# command: (file, what it does)
COMMANDS = {
    "compress": ("compress", "Compress a network as a recipe says."),
    "lower": ("lower", "Turn a model file into a .mcc file."),
    "run": ("run", "Run a .mcc file on arrays or an image."),
    "bench": ("bench", "Measure how fast a model runs."),
    "eval": ("evaluate", "Measure how good a .mcc file is on a recipe's test data."),
    "inspect": ("inspect", "List a model's layers: parameters, MACs, bytes."),
    "show": ("stages", "Print a model's graph, after any stage of lowering."),
    "export": ("export", "Write what a run made as ONNX."),
    "package": ("package", "Write a folder for an app: model, engine, example."),
    "passes": ("passes", "List the passes, or the options of one."),
    "kernels": ("kernels", "List the engine's kernels and which this CPU runs."),
    "targets": ("targets", "List the machines that mcc bench can measure or estimate for."),
    "recipes": ("recipes", "List, show and copy the recipes that ship."),
    "schema": ("schema", "Print the JSON Schema of recipes, for editors."),
}


class Commands(click.Group):
    """Reads COMMANDS instead of importing every command."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        return import_module(f".{COMMANDS[name][0]}", __name__).command if name in COMMANDS else None

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


def _version(ctx, param, value):
    if value:
        from importlib.metadata import version
        click.echo(f"mcc {version('mcc-toolchain')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
             epilog="`mcc COMMAND --help` says more. --debug, anywhere, shows the traceback of an error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
def mcc():
    """Compress a trained network and run it on a phone: one recipe, one file, one small engine."""


def main(args: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        code = mcc.main(args, prog_name="mcc", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as e:
        e.show()
        return 2
    except click.ClickException as e:
        hint = f"; see `{e.ctx.command_path} --help`" if isinstance(e, click.UsageError) and e.ctx is not None else ""
        return _stop(args, 2, [f"mcc: {e.format_message().rstrip('.')}{hint}"])
    except (KeyboardInterrupt, click.Abort):
        resumes = args[:1] == ["compress"]
        text = "the same command goes on from the last finished pass" if resumes else "nothing was left half done"
        return _stop(args, 130, [f"mcc: stopped; {text}"])
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        return 0
    except Exception as e:
        if debug:
            raise
        if isinstance(e, UserError):
            return _stop(args, 2, e.problems)
        if isinstance(e, PassFailed):
            return _stop(args, 3, str(e).splitlines())
        if isinstance(e, TargetError):
            return _stop(args, 4, str(e).splitlines())
        if isinstance(e, OSError) and e.strerror:
            return _stop(args, 2, [f"mcc: {e.filename or 'file'}: {e.strerror}"])
        if isinstance(e, MemoryError):
            return _stop(args, 3, ["mcc: out of memory; try a smaller batch, or a machine with more"])
        what = " ".join(f"{type(e).__name__}: {e}".split())
        return _stop(args, 70, [f"mcc: a bug in mcc: {what[:500]}",
                                "run the same command with --debug and report what it prints, with the recipe or model"])


def _stop(args: list[str], code: int, lines: list[str]) -> int:
    """Say why on stderr, and as JSON where that was asked for; returns the code."""
    for line in lines:
        print(line, file=sys.stderr)
    if "--json" in args:
        import json
        print(json.dumps({"schema": 1, "exit": code, "errors": lines}))
    return code
