"""Compiled programs as text, read: which instructions run, how often, over how many bytes and FLOPs.

The text is `jax.stages.Compiled.as_text()`: one instruction a line, `%name = shape opcode(operands), attributes`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_SIZES = {"pred": 1, "c64": 8, "c128": 16, "token": 0, "opaque": 0}
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
FREE = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "iota")
)
"""Opcodes that move nothing."""


@dataclasses.dataclass(frozen=True, eq=False)
class Instruction:
    """One line. `shape`, `attributes` are texts; `operands` names of the same computation's instructions."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str

    @functools.cached_property
    def op_name(self) -> str:
        """Where jax traced it, such as `jit(step)/jvp(UNet)/down1/conv/conv_general_dilated`; empty if unknown."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @functools.cached_property
    def cycles(self) -> int | None:
        """The TPU compiler's estimate, which it makes for fusions, convolutions and copies."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
        return int(found[1]) if found and int(found[1]) < 1 << 60 else None  # a huge number stands for none

    def called(self, key: str) -> tuple[str, ...]:
        """Names of the computations that attribute `key` names."""
        found = re.search(rf"\b{key}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return tuple(_OPERAND.findall(found[1])) if found else ()


@dataclasses.dataclass(frozen=True)
class Program:
    """A module's computations, each {instruction's name: instruction} in order of definition."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    @functools.cached_property
    def executed(self) -> tuple[tuple[Instruction, str, int], ...]:
        """(instruction, its computation, times) of all that runs on its own: a fusion is one instruction, loops and
        calls are entered. A loop whose trip count the compiler does not tell is counted once; see `open_loops`."""
        return tuple(self._walk(self.entry, 1))

    @functools.cached_property
    def open_loops(self) -> int:
        """Loops that run whose trip count is not known."""
        return sum(one.opcode == "while" and _trips(one) is None for one, _, _ in self.executed)

    def inside(self, fusion: Instruction) -> Iterator[tuple[Instruction, str]]:
        """(instruction, computation) of what a fusion computes, fusions within it included."""
        for name in fusion.called("calls"):
            for one in self.computations.get(name, {}).values():
                yield one, name
                if one.opcode == "fusion":
                    yield from self.inside(one)

    def operands(self, one: Instruction, computation: str) -> list[Instruction]:
        """The instructions it reads."""
        known = self.computations[computation]
        return [known[name] for name in one.operands if name in known]

    def traced(self, one: Instruction, computation: str) -> str:
        """The `op_name` of an instruction; where the compiler made it, that of what it fuses, of what reads it, or of
        what it reads; empty if none of them has one."""
        if one.op_name:
            return one.op_name
        inside = [inner.op_name for inner, _ in self.inside(one) if inner.op_name]
        if inside:
            return inside[-1]
        near = (*self._readers(computation).get(one.name, ()), *self.operands(one, computation))
        return next((other.op_name for other in near if other.op_name), "")

    def _readers(self, computation: str) -> dict[str, list[Instruction]]:
        if computation not in self._read_by:
            found = self._read_by[computation] = {}
            for one in self.computations[computation].values():
                for name in one.operands:
                    found.setdefault(name, []).append(one)
        return self._read_by[computation]

    @functools.cached_property
    def _read_by(self) -> dict[str, dict[str, list[Instruction]]]:
        return {}

    def _walk(self, name: str, times: int) -> Iterator[tuple[Instruction, str, int]]:
        for one in self.computations.get(name, {}).values():
            yield one, name, times
            if one.opcode == "while":
                for body in one.called("body"):
                    yield from self._walk(body, times * (_trips(one) or 1))
            elif one.opcode == "call":
                for body in one.called("to_apply"):
                    yield from self._walk(body, times)
            elif one.opcode == "async-start":
                for body in one.called("calls"):
                    yield from self._walk(body, times)
            elif one.opcode == "conditional":
                keys = ("branch_computations", "true_computation", "false_computation")
                for body in (branch for key in keys for branch in one.called(key)):
                    yield from self._walk(body, times)


def parse(text: str) -> Program:
    """Reads a module.

    Raises:
      ValueError: where there is no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = None, None
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            head = _OPERAND.search(line)
            if head:
                current = computations.setdefault(head[1], {})
                if line.startswith("ENTRY"):
                    entry = head[1]
        elif current is not None and " = " in line:
            one = _instruction(line)
            if one is not None:
                current[one.name] = one
    if entry is None:
        raise ValueError("no ENTRY computation in the text of the program")
    return Program(computations, entry)


def shapes(text: str) -> list[tuple[str, tuple[int, ...], str]]:
    """(dtype, dimensions, layout) of each array in a shape's text; several for a tuple."""
    return [
        (kind, tuple(int(d) for d in sizes.split(",") if d), layout or "")
        for kind, sizes, layout in _SHAPE.findall(_plain(text))
    ]


def nbytes(text: str, *, main_memory: bool = False) -> int:
    """Bytes of a shape; with `main_memory`, only of arrays there, not those of a TPU's on-chip space (`S(1)`)."""
    return sum(
        int(math.prod(sizes) * item_bytes(kind))
        for kind, sizes, layout in shapes(text)
        if not (main_memory and "S(1)" in layout)
    )


def item_bytes(kind: str) -> float:
    """Bytes of one element of a dtype as HLO writes it, such as bf16 or s4."""
    if kind in _SIZES:
        return _SIZES[kind]
    bits = re.match(r"[a-z]+(\d+)", kind)
    return int(bits[1]) / 8 if bits else 0


def elements(text: str) -> int:
    """Elements of a shape's first array."""
    found = shapes(text)
    return math.prod(found[0][1]) if found else 0


def flops(program: Program, one: Instruction, computation: str) -> int:
    """Multiplications and additions of the convolutions and products in an instruction; all else counts nothing.

    Taps that fall on padding are counted, and so are the zeros of dilated inputs: this is the conventional count.
    """
    if one.opcode == "fusion":
        return sum(_own_flops(program, inner, name) for inner, name in program.inside(one))
    return _own_flops(program, one, computation)


def _own_flops(program: Program, one: Instruction, computation: str) -> int:
    target = re.search(r'custom_call_target="([^"]*)"', one.attributes)
    kind = target[1] if target else one.opcode
    convolution = kind == "convolution" or "cudnn$conv" in kind
    if not convolution and kind != "dot" and "gemm" not in kind and "matmul" not in kind:
        return 0
    operands = [shapes(operand.shape) for operand in program.operands(one, computation)]
    result = shapes(one.shape)
    if len(operands) < 2 or not all(operands[:2]) or not result:
        return 0
    left, right, out = operands[0][0][1], operands[1][0][1], result[0][1]
    if convolution:
        labels = re.search(r"dim_labels=\w+_(\w+)->", one.attributes)
        if labels is None:
            return 0
        if "BackwardFilter" in kind:
            kernel, image = out, right
        elif "BackwardInput" in kind:
            kernel, image = right, left
        else:
            kernel, image = right, out
        return 2 * math.prod(image) * math.prod(kernel) // max(1, kernel[labels[1].index("o")])
    axes = re.search(r"lhs_contracting_dim(?:ension)?s\"?[=:][{\[]([\d,\"]*)[}\]]", one.attributes)
    contracted = [int(axis) for axis in re.findall(r"\d+", axes[1])] if axes else []
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted if axis < len(left))


def _instruction(line: str) -> Instruction | None:
    head = _INSTRUCTION.match(line)
    if head is None:
        return None
    rest = line[head.end() :]
    if rest.startswith("("):
        end = _closing(rest, 0) + 1
    else:
        end = rest.find(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, parenthesis, _ = rest.partition("(")
    if not parenthesis or not re.fullmatch(r"[a-z][\w\-]*", opcode):
        return None
    close = _closing(rest, len(opcode))
    return Instruction(
        name=head[1],
        shape=shape,
        opcode=opcode,
        operands=tuple(_OPERAND.findall(rest[len(opcode) : close])),
        attributes=rest[close + 1 :],
    )


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    return len(text)


def _plain(text: str) -> str:
    return re.sub(r"/\*[^*]*\*/", "", text)


def _trips(loop: Instruction) -> int | None:
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    return int(found[1]) if found else None
