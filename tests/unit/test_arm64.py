"""Targets as data, classes of instructions, cycle models and what llvm-mca prints."""
import pytest
from mcc.cli.arm64 import count, cycles, decode, llvm, targets
from mcc.passes.errors import TargetError, UserError

WORDS = {  # as GNU as makes them
    "fmla": (0x4E20CC20, 0x0F801020, 0x1F020C20),  # fmla v0.4s, v1.4s, v0.4s; by element; fmadd
    "dot": (0x4E829420, 0x4F82E020),               # sdot v0.4s, v1.16b, v2.16b; by element
    "mmla": (0x4E82A420,),                         # smmla
    "widen": (0x0E22C020, 0x0E228020, 0x4E229420),  # smull, smlal, mla
    "vector": (0x4E21D400, 0x4F000400),            # fadd, movi
    "load": (0x3DC00020, 0xAD400420, 0xF9400020, 0x4DDFC820),  # ldr q, ldp q, ldr x, ld1r
    "store": (0x3D800020, 0xAD000420, 0xF9000020),
    "branch": (0xD65F03C0, 0x54000041, 0xB4000040),
    "other": (0x8B020020, 0xD503201F, 0x91000400),
}


@pytest.mark.parametrize("name", WORDS)
def test_classes(name):
    assert [decode.kind(w) for w in WORDS[name]] == [name] * len(WORDS[name])


def test_counts_are_read_and_a_later_run_replaces_the_first():
    text = ('{"region": 0, "blocks": [[0, 9], [1, 1]]}\n{"region": 0, "blocks": [[0, 2]]}\n{"region": 1, "blocks": [[1, 3]]}\n'
            '{"words": ["4e20cc20d65f03c0", "d65f03c0"]}\n')
    found = count.read(text)
    assert found[0].instructions == 4 and found[0].classes == {"fmla": 2, "branch": 2}
    assert count.total(found.values()).instructions == 7


def test_every_target_that_ships_is_whole():
    assert {"host", "arm64", "arm64-cortex-a53", "arm64-cortex-a55", "arm64-cortex-a76"} <= set(targets.names())
    for name in targets.names():
        assert targets.find(name).asked == name
    assert targets.find("arm64").name == "arm64-cortex-a76"
    with pytest.raises(TargetError, match="did you mean 'arm64-cortex-a55'"):
        targets.find("arm64-cortexa55")


def test_mistakes_of_a_target_file_have_places(tmp_path):
    text = (targets.FOLDER / "arm64-cortex-a76.yaml").read_text()
    path = tmp_path / "x.yaml"
    path.write_text(text.replace("cores: 4", "cores: four").replace("l2_kb", "l2kb"))
    with pytest.raises(UserError) as e:
        targets.read(path)
    said = "\n".join(e.value.problems)
    assert "x.yaml:4:8: cores: must be a whole number, not 'four'" in said
    assert "caches: unknown key 'l2kb'; did you mean 'l2_kb'?" in said


def test_in_order_model():
    """Independent 128-bit multiplies go one a cycle, a chain of them one in its latency, 128-bit loads take two each."""
    apart = [0x4E20CC00 | i | 20 << 5 | 21 << 16 for i in range(8)]
    assert cycles.in_order(apart, "a55") == pytest.approx(8, abs=0.5)
    assert cycles.in_order([0x4E20CC20], "a55") == pytest.approx(cycles.LONG_LATENCY)
    assert cycles.in_order([0x3DC00020 | i for i in range(4)], "a55") == pytest.approx(8, abs=0.5)


def test_ports_bound():
    core = targets.find("arm64-cortex-a76").cycles
    assert cycles.ports([0x4E20CC00 | i for i in range(8)], core) == 4
    assert cycles.ports([0x8B020020] * 6, core) == 2


def test_llvm_mca_report_is_read():
    text = ("\n[0] Code Region - b0\n\nIterations:        100\nInstructions:      800\nTotal Cycles:      410\n\n"
            "[1] Code Region - b3\n\nIterations:        50\nInstructions:      50\nTotal Cycles:      25\n")
    assert llvm.parse(text) == {0: 4.1, 3: 0.5}
    assert llvm._apart("str q0, [x1], #16") == ["str q0, [x1]", "add x1, x1, #16"]
    assert llvm._apart("ldr q0, [x1, #-32]!") == ["sub x1, x1, #32", "ldr q0, [x1]"]
