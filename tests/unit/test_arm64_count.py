"""The counting plugin on a program of known traffic: lines that simulated caches fetch and write back."""
import os
import subprocess

import pytest
from mcc.cli.arm64 import build, count
from mcc.passes.errors import TargetError
from mcc.passes.recipe.target import Caches

KB = 256  # of the array
PROGRAM = """
#include <stdlib.h>
#include <unistd.h>
#define MARK 0x6D6363
enum { LINES = %d };
static _Alignas(64) volatile char array[LINES][64];
int main(void) {
    for (int region = 0; region < 3; region++) {
        syscall(MARK, region);
        for (int i = 0; i < LINES; i++) {
            if (region == 1) array[i][0] = 1;
            else (void)array[i][0];
        }
        syscall(MARK, -1);
    }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    try:
        if lacking := count.missing():
            raise TargetError(lacking)
        compiler = build.compiler("arm64")
    except TargetError as e:
        assert os.environ.get("CI") != "true", f"must be there in CI (make deps): {e}"
        pytest.skip(str(e))
    source = tmp_path_factory.mktemp("program") / "walk.c"
    source.write_text(PROGRAM % (KB * 1024 // count.LINE))
    subprocess.run([*compiler.command, "-O1", "-static", source, "-o", source.with_suffix("")], check=True)
    return source.with_suffix("")


def test_lines(program):
    """Read, written, read again: the array is larger than the first level and fits the second, so memory gives it once and the
    first level passes the written lines on; with no second level they go to memory."""
    lines, few = KB * 1024 // count.LINE, 40  # few: of the stack and the program's own
    found, _ = count.count([program], "cortex-a76", caches=Caches(l1d_kb=32, l2_kb=512))
    for region, memory in ((0, lines), (1, 0), (2, 0)):
        l1, l2, written = found[region].lines
        assert lines <= l1 <= lines + few and memory <= l2 <= memory + few and written == 0
    found, _ = count.count([program], "cortex-a76", caches=Caches(l1d_kb=32, l2_kb=0))
    written = [found[i].lines[-1] for i in range(3)]
    assert written[0] <= few and lines <= sum(written) <= lines + few
    assert found[0].memory_bytes == count.LINE * sum(found[0].lines)
    assert count.total(found.values()).lines == tuple(sum(f.lines[i] for f in found.values()) for i in range(2))


def test_without_caches_nothing_is_simulated(program):
    found, _ = count.count([program], "cortex-a76")
    assert found[0].lines == () and found[0].memory_bytes == 0 and found[0].instructions > 0
