"""What a program is advised of, and that a good one is left in peace."""

from __future__ import annotations

from segjax.planning.advice import advise
from segjax.planning.chips import TPUS
from segjax.planning.collectives import Collective
from segjax.planning.hlo import parse

GIB = 2**30


def _program(channels: int, loops: str = ""):
    return parse(f"""\
HloModule m

ENTRY %main (x.1: bf16[8,64,64,128], w.1: bf16[3,3,128,{channels}]) -> bf16[8,64,64,{channels}] {{
  %x.1 = bf16[8,64,64,128]{{3,2,1,0}} parameter(0)
  %w.1 = bf16[3,3,128,{channels}]{{3,2,1,0}} parameter(1)
{loops}  ROOT %c.1 = bf16[8,64,64,{channels}]{{3,2,1,0}} convolution(%x.1, %w.1), window={{size=3x3 pad=1_1x1_1}}, \
dim_labels=b01f_01io->b01f, metadata={{op_name="jit(step)/jvp(Net)/head/conv/conv_general_dilated"}}
}}
""")


def _advice(channels=256, loops="", **changes):
    options = {
        "mesh": {"data": 4, "fsdp": 1, "spatial": 1},
        "batch": 32,
        "crop": (512, 1024),
        "stride": 32,
        "parameters": [(3, 3, 512, 512)],
        "exchanged": [],
        "memory": {"parameters": GIB, "optimiser_state": GIB, "average": 0, "temporaries": 6 * GIB},
        "available": 16 * GIB,
    }
    return advise(_program(channels, loops), TPUS["v5e"], **{**options, **changes})


def _gather(dimensions, **changes):
    fields = {
        "kind": "all-gather",
        "bytes": 2**24,
        "sent": 1.0,
        "group": 2,
        "axes": ("spatial",),
        "dtype": "bf16",
        "dimensions": dimensions,
        "module": "jit(step)/transpose(jvp(Net))/aspp/gather",
        "times": 1,
        "asynchronous": False,
    }
    return Collective(**{**fields, **changes})


def test_nothing_is_said_of_a_program_that_fills_its_chip():
    assert _advice() == []


def test_channels_just_above_a_multiple():
    (line,) = _advice(150)
    assert "150 channels (Net/head/conv; 100% of the products' FLOPs) are just above 128" in line
    assert "256" in line
    for channels in (64, 128, 192, 240, 384):  # below the first multiple, on one, or well into the next
        assert _advice(channels) == []


def test_a_batch_that_fills_badly():
    (line,) = _advice(batch=20)
    assert "5 images a device" in line
    assert "config.train.batch_size=32 (8 a device)" in line


def test_an_image_sized_gather_is_told_with_its_module_and_a_parameters_is_not():
    (line,) = _advice(exchanged=[_gather((4, 512, 1024, 64))])
    assert line.startswith("Net/aspp (gather, backward) all-gathers bf16[4, 512, 1024, 64] over spatial, 16.0 MiB")
    assert _advice(exchanged=[_gather((3, 3, 512, 512), axes=("fsdp",))]) == []
    assert _advice(exchanged=[_gather((8, 19, 4))]) == []  # small
    assert _advice(exchanged=[_gather((4, 512, 1024, 64), kind="all-reduce")]) == []


def test_many_small_reductions():
    (line,) = _advice(exchanged=[_gather((256,), kind="all-reduce", bytes=1024)] * 106)
    assert line.startswith("106 all-reduces of up to 64 KiB")


def test_rows_that_the_parts_do_not_share_evenly():
    (line,) = _advice(mesh={"data": 4, "fsdp": 1, "spatial": 32})
    assert "16 rows, which 32 parts" in line


def test_memory_that_is_free_or_short():
    sizes = {"parameters": GIB, "optimiser_state": GIB, "average": 0, "temporaries": 0}
    assert "88% of the memory stays free" in _advice(memory=sizes)[0]
    assert "config.train.remat" in _advice(memory={**sizes, "temporaries": 20 * GIB})[0]
    assert "config.parallel.fsdp" in _advice(memory={**sizes, "optimiser_state": 20 * GIB})[0]


def test_loops_that_are_counted_once():
    loop = "  %l.1 = (bf16[8,64,64,128]) while(%x.1), condition=%c, body=%b\n"
    (line,) = _advice(loops=loop)
    assert line.startswith("1 loop")
