"""Targets as data, classes of instructions, cycle models and what llvm-mca prints."""
import os

import pytest
from mcc.cli.arm64 import count, cycles, decode, llvm, targets
from mcc.passes.errors import TargetError, UserError

# Forms of every class as GNU as makes them: vector, by element, scalar; of loads and stores pairs, structures, lanes, with
# and without write-back; of the rest what compilers use.
WORDS = {
    "fmla": (0x4E22CC20, 0x4EE2CC20, 0x4E420C20, 0x0EC20C20, 0x4FA21820, 0x4F325820, 0x1F020C20, 0x1F628C20, 0x4E22EC20,
              0x6E22CC20, 0x4EA2EC20),
    "dot": (0x4E829420, 0x2E829420, 0x4E829C20, 0x4FA2E820, 0x6FA2E020, 0x4F82F820, 0x4F02F820, 0x6E42FC20, 0x2E42FC20,
             0x4F62F020),
    "mmla": (0x4E82A420, 0x6E82A420, 0x4E82AC20, 0x6E42EC20),
    "widen": (0x0E22C020, 0x6E22C020, 0x0E628020, 0x4E628020, 0x2E62A020, 0x0F722020, 0x0F72A020, 0x6F626020, 0x4EA29420,
               0x6E629420, 0x4E229C20, 0x6FA20020, 0x6F524020, 0x4FA28020),
    "vector": (0x4E22D420, 0x4FA29020, 0x4E22DC20, 0x4E423420, 0x6E22E420, 0x6E421C20, 0x6EA2B420, 0x4F82C020, 0x0E629020,
                0x4EA28420, 0x0E220020, 0x0E225020, 0x0E22E020, 0x4E606820, 0x4E823820, 0x4E020020, 0x6E022020, 0x4F000400,
                0x4F3D0420, 0x0E614820, 0x4E040C20, 0x4E0C0420, 0x4E0C1C40, 0x6E0C0440, 0x0E0C3C20, 0x1E270020, 0x1E260020,
                0x1E220020, 0x4E21A820, 0x1E222820, 0x1E212000, 0x6E22D420, 0x6E621C20, 0x4E218820, 0x6E82E420, 0x4E421820,
                0x6E22FC20, 0x0F1D9C20),
    "load": (0x3DC00020, 0xACC10440, 0xF8408C20, 0x39400020, 0xB9800020, 0x38E26820, 0xFC5F8020, 0x4CDF2020, 0x0D409020,
              0x4D40C820, 0x4C400820, 0x88DFFC20, 0xC85F7C20, 0x58000000, 0x3CE26820, 0xF9802020, 0x69400440),
    "store": (0x3C810420, 0xAD000440, 0xA9BF07E0, 0x39000020, 0xFC1F8020, 0x4C00A020, 0x0D009020, 0x4C000820, 0x889FFC20,
               0xB8226820, 0xBD000020),
    "branch": (0x14000000, 0x94000000, 0x54000001, 0xB4000000, 0x37180000, 0xD65F03C0, 0xD61F0020, 0xD63F0040),
    "other": (0x8B020020, 0xF1000C20, 0xF2800060, 0x9B020C20, 0x9A821020, 0xD503201F, 0x9AC20820, 0x53021020, 0xD5033BBF,
               0xD53BD040, 0x90000000, 0xFA401800, 0x9AC25C20),
}


@pytest.mark.parametrize("name", WORDS)
def test_classes(name):
    assert [decode.kind(w) for w in WORDS[name]] == [name] * len(WORDS[name])


def test_registers_and_bytes_of_memory():
    """ldp q0, q1, [x2], #32; ld1 {v0.s}[1], [x1], which keeps the other lanes; st1 of two registers; prfm."""
    assert decode.decode(0xACC10440)[1:8] == ("load", True, 32, True, (32, 33), (2,), 2)
    lane = decode.decode(0x0D409020)
    assert (lane.bytes, lane.defines, lane.uses) == (4, (32,), (1, 32))
    pair = decode.decode(0x4C00A020)
    assert (pair.unit, pair.bytes, pair.uses) == ("store", 32, (1, 32, 33))
    assert decode.decode(0xF9802020).bytes == 0


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


PEAKS = {"f32": [("neon", 0x4E20CC00, 4)], "f16": [("neonfp16", 0x4E400C00, 8)],  # fmla .4s, fmla .8h
         "s8": [("neoni8mm", 0x4E80A400, 32), ("neondot", 0x4E809400, 16), ("neon", 0x0E208000, 8)]}  # smmla, sdot, smlal


# Not the M1: LLVM's model of it starts 2 to 3 products a cycle, and it has four pipes.
@pytest.mark.parametrize("name", [n for n in targets.names() if targets.find(n).arch == "arm64" and "apple" not in n])
def test_peaks_are_what_the_cycle_models_reach(name):
    """Products into registers of their own, nothing else, at the rate that a target's file states. llvm-mca's models are made
    from Arm's Software Optimization Guides (Cortex-A72: UAN 0016, A76: PJDOC-466751330-7215, of the others likewise)."""
    target = targets.find(name)
    core = target.cycles
    if core.mca and llvm.missing():
        assert os.environ.get("CI") != "true", f"must be there in CI (make deps): {llvm.missing()}"
        pytest.skip(llvm.missing())
    for kind, ways in PEAKS.items():
        if (stated := getattr(target.peak, kind)) is None:
            continue
        word, macs = next((w, m) for isa, w, m in ways if isa in target.isa)
        block = tuple(word | i | 24 << 5 | 25 << 16 for i in range(24))
        spent = (cycles.in_order(block, core.in_order) if core.in_order else
                 llvm.cycles([block], core.mca)[block] if core.mca else cycles.ports(block, core))
        assert len(block) * macs / spent == pytest.approx(stated, rel=0.02), kind


def test_in_order_model():
    """Independent 128-bit multiplies go one a cycle, a chain of them one in its latency, 128-bit loads take two each."""
    apart = [0x4E20CC00 | i | 20 << 5 | 21 << 16 for i in range(8)]
    assert cycles.in_order(apart, "a55") == pytest.approx(8, abs=0.5)
    chain, around = 0x4E20CC20, 0x54FFFFE1  # b.ne to the instruction before
    assert cycles.in_order([chain, around], "a55") == pytest.approx(cycles.LONG_LATENCY)
    assert cycles.in_order([chain], "a55") == pytest.approx(1)  # no loop: another turn's result is not waited for
    assert cycles.in_order([0x3DC00020 | i for i in range(4)], "a55") == pytest.approx(8, abs=0.5)


@pytest.mark.parametrize("jump", [0x17FFFFFD, 0x54FFFFA1, 0xB5FFFFA0, 0x34FFFFA1, 0x3707FFA1], ids="b b.ne cbnz cbz tbnz".split())
def test_loops(jump):
    """Three instructions back."""
    assert decode.loops((0xD503201F,) * 3 + (jump,))
    assert not decode.loops((0xD503201F,) * 2 + (jump,)) and not decode.loops((jump, 0xD503201F))


def test_ports_bound():
    core = targets.find("arm64-cortex-a76").cycles
    assert cycles.ports([0x4E20CC00 | i for i in range(8)], core) == 4
    assert cycles.ports([0x8B020020] * 6, core) == 2


def test_llvm_mca_report_is_read():
    text = ("\n[0] Code Region - b0\n\nIterations:        100\nInstructions:      800\nTotal Cycles:      410\nTotal uOps:"
            "        800\n\nDispatch Width:    3\nIPC:               1.95\nBlock RThroughput: 2.0\n\n[1] Code Region - b3\n\n"
            "Iterations:        50\nInstructions:      50\nTotal Cycles:      25\nBlock RThroughput: 0.3\n")
    assert llvm.parse(text) == {0: (4.1, 2.0), 3: (0.5, 0.3)}
    assert llvm._apart("str q0, [x1], #16") == ["str q0, [x1]", "add x1, x1, #16"]
    assert llvm._apart("ldr q0, [x1, #-32]!") == ["sub x1, x1, #32", "ldr q0, [x1]"]
