"""Compiled programs read from their text: real ones of this machine, and lines as the TPU's compiler writes them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from segjax.planning.hlo import flops, nbytes, parse, shapes

# As libtpu 0.0.42 prints a step: tiled layouts, on-chip space S(1), cycles in the configuration.
TPU = """\
HloModule jit_step, is_scheduled=true

%fused_computation.1 (param_0.1: bf16[8,64,64,256], param_1.2: bf16[3,3,256,128]) -> bf16[8,64,64,128] {
  %param_0.1 = bf16[8,64,64,256]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %param_1.2 = bf16[3,3,256,128]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.5 = bf16[8,64,64,128]{3,0,2,1:T(8,128)(2,1)S(1)} convolution(%param_0.1, %param_1.2), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, metadata={op_name="jit(step)/jvp(Net)/aspp/conv/conv_general_dilated"}
}

ENTRY %main.9 (a.1: bf16[8,64,64,256], b.1: bf16[3,3,256,128]) -> (bf16[8,64,64,128], f32[]) {
  %a.1 = bf16[8,64,64,256]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %b.1 = bf16[3,3,256,128]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %fusion.3 = bf16[8,64,64,128]{3,0,2,1:T(8,128)(2,1)S(1)} fusion(%a.1, %b.1), kind=kOutput, calls=%fused_computation.1, backend_config={"window_config":{"estimated_cycles":"12345"}}
  %copy.1 = bf16[8,64,64,128]{0,3,2,1:T(8,128)(2,1)} copy(%fusion.3), backend_config={"window_config":{"estimated_cycles":"9223372036854775807"}}
  %constant.1 = f32[] constant(0)
  ROOT %tuple.1 = (bf16[8,64,64,128]{0,3,2,1:T(8,128)(2,1)}, /*index=1*/f32[]) tuple(%copy.1, %constant.1)
}
"""  # noqa: E501


def test_tiled_layouts_on_chip_space_and_cycles():
    program = parse(TPU)
    fusion, copy = (program.computations["main.9"][name] for name in ("fusion.3", "copy.1"))
    assert nbytes(fusion.shape) == 2 * 8 * 64 * 64 * 128
    assert nbytes(fusion.shape, main_memory=True) == 0
    assert fusion.cycles == 12345
    assert copy.cycles is None  # a number that stands for none
    assert [one.opcode for one, _, _ in program.executed] == [
        "parameter",
        "parameter",
        "fusion",
        "copy",
        "constant",
        "tuple",
    ]


def test_a_fusion_has_the_work_and_the_origin_of_what_it_fuses_and_a_copy_that_of_what_it_reads():
    program = parse(TPU)
    fusion, copy = (program.computations["main.9"][name] for name in ("fusion.3", "copy.1"))
    assert flops(program, fusion, "main.9") == 2 * (8 * 64 * 64 * 128) * 9 * 256
    assert program.traced(fusion, "main.9").endswith("aspp/conv/conv_general_dilated")
    assert program.traced(copy, "main.9") == ""  # what it reads has no name of its own


def test_tuples_and_comments_in_shapes():
    assert [kind for kind, _, _ in shapes("(s32[], u32[1]{0}, /*index=2*/pred[3,4]{1,0})")] == ["s32", "u32", "pred"]
    assert nbytes("(s32[], u32[1]{0}, /*index=2*/pred[3,4]{1,0})") == 4 + 4 + 12
    assert nbytes("s4[10]{0}") == 5
    assert nbytes("f8e4m3fn[10]{0}") == 10


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("HloModule nothing")


def _work(function, *shapes_of_arguments):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes_of_arguments]
    compiled = jax.jit(function).lower(*arguments).compile()
    program = parse(compiled.as_text())
    return program, sum(times * flops(program, one, name) for one, name, times in program.executed)


def test_products_of_a_real_program_are_counted_as_by_hand():
    _, work = _work(lambda a, b: jnp.tanh(a @ b) @ b.T, (32, 48), (48, 64))
    assert work == 2 * (2 * 32 * 48 * 64)


def test_convolution_and_both_gradients_of_a_real_program_are_counted_as_by_hand():
    def loss(x, w):
        return jnp.sum(
            jnp.tanh(lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")))
        )

    _, work = _work(jax.grad(loss, (0, 1)), (2, 12, 12, 5), (3, 3, 5, 7))
    forward = 2 * (2 * 10 * 10 * 7) * 9 * 5
    # The image's gradient is written as a convolution of the padded cotangent: 12 x 12 results of 9 taps.
    assert work == forward + 2 * (2 * 12 * 12 * 5) * 9 * 7 + forward


def test_a_loop_runs_as_often_as_the_compiler_says():
    program, work = _work(lambda a, b: lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ b), a), (16, 16), (16, 16))
    assert work == 7 * 2 * 16**3
    assert program.open_loops == 0


def test_a_loop_of_unknown_length_is_told():
    program, _ = _work(lambda a: lax.while_loop(lambda x: jnp.sum(x) < 100, lambda x: x * 1.5, a), (8,))
    assert program.open_loops == 1
