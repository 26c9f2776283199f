"""Building for arm64: which compiler, what is kept, and one line that says what is missing."""
import subprocess

import pytest
from mcc.cli.arm64 import build
from mcc.passes.errors import TargetError


@pytest.fixture
def fresh():
    build.compiler.cache_clear()
    yield
    build.compiler.cache_clear()


def test_no_compiler_is_one_line_with_the_way_out(fresh, monkeypatch):
    monkeypatch.setattr(build, "_refuses", lambda command: "it cannot link")
    with pytest.raises(TargetError, match="apt-get install gcc-aarch64-linux-gnu.*pip install ziglang") as e:
        build.compiler("arm64")
    assert "\n" not in str(e.value)


def test_a_compiler_that_cannot_link_is_said(fresh, monkeypatch, tmp_path):
    """One that answers --version but makes nothing is not chosen."""
    false = tmp_path / "cc"
    false.write_text("#!/bin/sh\necho 'cc: error: no C library here' >&2\nexit 1\n")
    false.chmod(0o755)
    monkeypatch.setenv("CC_arm64", str(false))
    monkeypatch.setattr(build, "native", lambda: False)
    with pytest.raises(TargetError, match="no C library here"):
        build.compiler("arm64")


def test_objects_are_kept_and_an_edited_file_is_made_again(fresh, monkeypatch, tmp_path):
    """A small tree in place of the engine's: the second build makes nothing, an edit makes one object and the product."""
    (tmp_path / "kernels" / "core").mkdir(parents=True)
    (tmp_path / "kernels" / "core" / "a.h").write_text("int a(void);\n")
    (tmp_path / "kernels" / "core" / "a.c").write_text('#include "a.h"\nint a(void) { return 7; }\n')
    (tmp_path / "kernels" / "mcc_run.c").write_text('#include "core/a.h"\nint main(void) { return a(); }\n')
    monkeypatch.setattr(build, "KERNELS", tmp_path / "kernels")
    monkeypatch.setenv("MCC_CACHE", str(tmp_path / "cache"))
    first = build.build("mcc-run", "host")
    assert subprocess.run([first], check=False).returncode == 7
    made = {p: p.stat().st_mtime_ns for p in build.folder().rglob("*") if p.is_file()}
    assert build.build("mcc-run", "host") == first
    assert made == {p: p.stat().st_mtime_ns for p in build.folder().rglob("*") if p.is_file()}
    (tmp_path / "kernels" / "core" / "a.c").write_text('#include "a.h"\nint a(void) { return 8; }\n')
    second = build.build("mcc-run", "host")
    assert subprocess.run([second], check=False).returncode == 8
    assert len(list((build.folder() / "obj").glob("*.o"))) == 3


def test_a_source_that_does_not_compile_is_one_line(fresh, monkeypatch, tmp_path):
    (tmp_path / "kernels" / "core").mkdir(parents=True)
    (tmp_path / "kernels" / "core" / "a.c").write_text("int a(void) { return b; }\n")
    (tmp_path / "kernels" / "mcc_run.c").write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(build, "KERNELS", tmp_path / "kernels")
    monkeypatch.setenv("MCC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(TargetError, match="a-.*: .*a.c:1:.*error"):
        build.build("mcc-run", "host")
    assert not list(build.folder().rglob("*.o")) or all("mcc_run" in p.name for p in build.folder().rglob("*.o"))
