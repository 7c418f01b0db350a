"""Vectors of eight numbers for numba: the arithmetic of the kernels, eight tokens at a time.

numba leaves it to the compiler to find what can be vectorised, and with several strided rows in one loop it mostly
finds nothing. `Lanes` says it outright: a value of eight numbers of an array's type that lives in one register (two
or more on processors with narrower ones), with ``+``, ``-``, ``*``, ``/`` and the functions below. All of them are
compiled in place; none can be called from Python.

numba keeps compiled kernels on disk and notices changes of their own files only: whoever changes this one deletes
``fixlm/output/kernels/__pycache__`` and ``fixlm/model/__pycache__``.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8

_INT32 = ir.IntType(32)
_WHOLE = ir.VectorType(_INT32, LANES)
_FUSE = ("contract",)  # lets a product and a sum become one fused multiply-add, where the processor has it


class Lanes(types.Type):
    """numba's type of such a vector; ``dtype`` is float32 or float64."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


# bfloat16, which numpy lacks, is the upper half of a float32: arrays of it come as int16, and are float32 in registers.


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """array[index : index + 8] of a contiguous array; one of int16 holds bfloat16."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        pointer, align = _address(context, builder, signature.args[0], *values)
        lanes = builder.load(pointer, align=align)
        if array.dtype == types.int16:
            high = builder.shl(builder.zext(lanes, _WHOLE), _whole(16))
            return builder.bitcast(high, context.get_value_type(signature.return_type))
        return lanes

    return Lanes(_in_registers(array))(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index : index + 8] = lanes, rounded to the nearest bfloat16 (ties to even) in an array of int16."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        pointer, align = _address(context, builder, signature.args[0], *values[:2])
        value = values[2]
        if array.dtype == types.int16:
            bits = builder.bitcast(value, _WHOLE)
            odd = builder.and_(builder.lshr(bits, _whole(16)), _whole(1))
            rounded = builder.add(builder.add(bits, odd), _whole(0x7FFF))
            value = builder.trunc(builder.lshr(rounded, _whole(16)), pointer.type.pointee)
        builder.store(value, pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def splat(typing: Any, array: Any, number: Any) -> Any:
    """Eight times the same number, in the type of the array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        kind = context.get_value_type(signature.return_type)
        scalar = context.cast(builder, values[1], signature.args[1], signature.return_type.dtype)
        undefined = ir.Constant(kind, ir.Undefined)
        one = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        return _shuffle(builder, one, undefined, [0] * LANES)

    return Lanes(_in_registers(array))(array, number), generate


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each pair; ``b`` where ``a`` is not a number."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values), *values)

    return a(a, b), generate


@intrinsic
def sums(typing: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Element i is the sum over the lanes of argument i."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        # Sums of neighbours within each half, as processors offer them in one instruction, then of the halves.
        quarters = [_add_neighbours(builder, *values[i : i + 2]) for i in range(0, 8, 2)]
        left, right = (_add_neighbours(builder, *quarters[i : i + 2]) for i in (0, 2))
        low = _shuffle(builder, left, right, [0, 1, 2, 3, 8, 9, 10, 11])
        return builder.fadd(low, _shuffle(builder, left, right, [4, 5, 6, 7, 12, 13, 14, 15]))

    return a(a, b, c, d, e, f, g, h), generate


@intrinsic
def transposed(typing: Any, eight: Any) -> Any:
    """Element i of result j is element j of argument i, for a tuple of eight."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        rows = [builder.extract_value(values[0], row) for row in range(LANES)]
        for apart in (1, 2, 4):  # exchanges the blocks of that size off the diagonal
            upper = [LANES + lane - apart if lane & apart else lane for lane in range(LANES)]
            lower = [LANES + lane if lane & apart else lane + apart for lane in range(LANES)]
            for row in range(LANES):
                if not row & apart:
                    pair = rows[row], rows[row + apart]
                    rows[row], rows[row + apart] = (_shuffle(builder, *pair, order) for order in (upper, lower))
        return context.make_tuple(builder, signature.return_type, rows)

    return eight(eight), generate


@intrinsic
def exp2(typing: Any, y: Any) -> Any:
    """2^y for y ≤ 0, to 3e-7 (float32) or 1e-15 (float64) relative; below the smallest normal number: that number.

    2^y = 2^k · 2^f with k the nearest whole number: 2^f by a polynomial, 2^k by adding k to the exponent's bits.
    Adding 1.5 · 2^mantissa rounds y and leaves k in the lowest bits.
    """
    mantissa, smallest, degree = (23, -126, 5) if y.dtype == types.float32 else (52, -1022, 11)
    coefficients = _power_of_two_polynomial(degree)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        kind = values[0].type
        whole = ir.VectorType(ir.IntType(y.dtype.bitwidth), LANES)

        def constant(value: float) -> ir.Constant:
            rounded = float(np.float32(value)) if y.dtype == types.float32 else float(value)
            return ir.Constant(kind, [ir.Constant(kind.element, rounded)] * LANES)

        # What is not a number stays so.
        y_clamped = builder.select(
            builder.fcmp_unordered(">", values[0], constant(smallest)), values[0], constant(smallest)
        )
        rounder = constant(1.5 * 2.0**mantissa)
        rounded = builder.fadd(y_clamped, rounder)
        fraction = builder.fsub(y_clamped, builder.fsub(rounded, rounder))
        power = constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            power = builder.fadd(builder.fmul(power, fraction, flags=_FUSE), constant(coefficient), flags=_FUSE)
        exponent = builder.shl(builder.bitcast(rounded, whole), ir.Constant(whole, [mantissa] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(power, whole), exponent), kind)

    return y(y), generate


def _power_of_two_polynomial(degree: int) -> list[float]:
    """Coefficients, lowest first, of a near-minimax polynomial for 2^f on [−½, ½] that is exactly 1 at 0."""

    def slope(f: np.ndarray) -> np.ndarray:  # (2^f − 1) / f
        return np.where(f == 0, np.log(2), np.expm1(f * np.log(2)) / np.where(f == 0, 1, f))

    fit = np.polynomial.Chebyshev.interpolate(slope, degree - 1, domain=[-0.5, 0.5])
    return [1.0, *(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef)]


def _address(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, index: Any) -> tuple[Any, int]:
    """A pointer to eight elements from ``index`` on, and their alignment, which is that of one element."""
    data = context.make_array(kind)(context, builder, array).data
    eight = ir.VectorType(context.get_data_type(kind.dtype), LANES)
    return builder.bitcast(builder.gep(data, [index]), eight.as_pointer()), kind.dtype.bitwidth // 8


def _in_registers(array: Any) -> Any:
    return types.float32 if array.dtype == types.int16 else array.dtype


def _whole(value: int) -> ir.Constant:
    return ir.Constant(_WHOLE, [value] * LANES)


def _shuffle(builder: ir.IRBuilder, a: Any, b: Any, elements: Sequence[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(elements)), list(elements)))


def _add_neighbours(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    first = [start + offset for start in (0, 4) for offset in (0, 2, LANES, LANES + 2)]
    second = [element + 1 for element in first]
    return builder.fadd(_shuffle(builder, a, b, first), _shuffle(builder, a, b, second))


def _define(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Gives `Lanes` the operator."""

    @intrinsic
    def apply(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
            return getattr(builder, instruction)(*values, flags=_FUSE)

        return a(a, b), generate

    @overload(symbol, strict=False)
    def of_lanes(a: Any, b: Any) -> Any:
        return (lambda a, b: apply(a, b)) if isinstance(a, Lanes) and isinstance(b, Lanes) else None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_symbol, _instruction)
