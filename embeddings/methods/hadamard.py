"""Hadamard codewords with sign-flipped blocks: many more rows than columns, no two equal, coherence known.

With P = 2^m the next power of two from N on, the word with id c·P + i stands in block c at position i and has

    H_P[i] ∘ d_c,    d_c[x] = (−1)^Tr(c_1·x³ + c_2·x^e₂ + …)    over GF(2^m),

H_P the Sylvester matrix, c_1, c_2, … the digits of c to the base P, Tr the trace, and column x the field
element whose bits are x. Since H_P[i] is (−1)^Tr(a·x) for an a that belongs to i, the rows are codewords of
the dual of a BCH code (Gold sequences with one digit). The exponent 3 alone gives P² rows, of coherence
2^((m+1)/2 − m) for odd m and 2^((m+2)/2 − m) for even m, next to the Welch bound. N below P takes the first
N columns.

An exponent is usable if it leads a cyclotomic coset {e, 2e, 4e, …} mod 2^m − 1 of full size m: in a smaller
one, as that of x⁵ over GF(16), several coefficients give the same signs, and rows would repeat.
"""

from functools import lru_cache
from typing import Self

import numpy as np

from embeddings.errors import InputError
from embeddings.options import NoOptions as Options
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

SUMMARY = "±1 codewords: Hadamard blocks with dual BCH (Gold) signs, made by rule"
NEEDS_CORPUS = False
MAX_DEGREE = 20
"""The largest m of GF(2^m) that tables are made for."""
ENOUGH_BITS = 63
"""Exponents for more than 2^63 rows are not looked for: no vocabulary has as many words."""


def build(statistics: CorpusStatistics, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """The first V codewords of length N, entries ±1; the seed has no influence.

    Returns:
        (V, N) float32.

    Raises:
        InputError: the rule has fewer than V rows, or two rows of an N that is no power of two coincide.
    """
    size, order = len(statistics), order_for(dim)
    signs = signs_for(size, dim)[:, :dim]  # (blocks, N)
    positions = sylvester_rows(min(size, order), dim)  # (P, N)
    vectors = np.empty((size, dim), dtype=np.float32)
    for block, sign in enumerate(signs):
        rows = vectors[block * order : (block + 1) * order]
        np.multiply(positions[: len(rows)], sign, out=rows)
        progress("hadamard blocks", block + 1, len(signs))
    return vectors


def signs_for(size: int, dim: int) -> np.ndarray:
    """The signs d_c of as many blocks as that many words need: (⌈V/P⌉, P) int8.

    Raises:
        InputError: the rule has fewer rows, or two rows of an N that is no power of two coincide.
    """
    order = order_for(dim)
    if size > row_count(dim):
        raise InputError(
            "dim",
            f"the Hadamard rule has {row_count(dim):,} rows at N = {dim}",
            found=f"{size:,} words",
            fix=f"N = {enough_columns(size)} is enough",
        )
    signs = block_signs(-(-size // order), dim)
    # All P columns tell any two rows apart; those that are left out may have been the ones that did.
    if dim < order and size > order and (distinct := _distinct_rows(size, signs[:, :dim])) < size:
        raise InputError(
            "dim",
            f"{size - distinct:,} of {size:,} rows repeat others in the first {dim} of {order} columns",
            fix=f"N = {order} is enough",
        )
    return signs


def order_for(dim: int) -> int:
    """P, the smallest power of two that is at least N."""
    return 1 << (dim - 1).bit_length()


def row_count(dim: int) -> int:
    """How many rows the rule has at N columns: P to the power of one more than the usable exponents."""
    degree = (dim - 1).bit_length()
    return 1 << degree * (1 + len(exponents(degree)))


def enough_columns(rows: int) -> int:
    """The smallest power of two N at which the rule has that many rows."""
    dim = 1
    while row_count(dim) < rows:
        dim *= 2
    return dim


def _distinct_rows(size: int, signs: np.ndarray) -> int:
    """How many of the first codewords differ; compares bits, 32 times fewer bytes than the matrix has."""
    order = order_for(signs.shape[1])
    positive = sylvester_rows(order, signs.shape[1]) > 0
    bits = np.concatenate([np.packbits(positive == (sign > 0), axis=1) for sign in signs])[:size]
    return len(np.unique(bits.view(f"V{bits.shape[1]}")))


def sylvester_rows(rows: int, columns: int) -> np.ndarray:
    """The first rows and columns of the Sylvester matrix, H[i, x] = (−1)^(number of common bits of i and x).

    Row i depends on no bit of i beyond those of ``columns − 1``, so that rows repeat when there are more.

    Returns:
        (rows, columns) int8, ±1.
    """
    x = np.arange(columns)
    bits = [1 - 2 * (x >> bit & 1) for bit in range((rows - 1).bit_length())]
    return _products(bits, rows, columns)


def block_signs(blocks: int, dim: int) -> np.ndarray:
    """The signs d_c of the first blocks, c = 0, 1, …; d_0 is 1.

    Args:
        blocks: how many, at most ``row_count(dim) // order_for(dim)``.
        dim: N; the signs have the length P of the next power of two.

    Returns:
        (blocks, P) int8, ±1.

    Raises:
        InputError: the rule has fewer blocks.
    """
    order = order_for(dim)
    if blocks * order > row_count(dim):
        most = row_count(dim) // order
        raise InputError("dim", f"too many blocks for N = {dim}", found=blocks, expected=f"at most {most}")
    if blocks <= 1:
        return np.ones((blocks, order), dtype=np.int8)
    degree = order.bit_length() - 1
    field = GaloisField.of_degree(degree)
    # Tr is linear: the signs for c are the product of those for its bits, bit b of digit t being 2^b · x^e_t.
    bits = []
    for exponent in exponents(degree)[: -(-(blocks - 1).bit_length() // degree)]:
        powers = field.power(np.arange(order), exponent)
        bits += [1 - 2 * field.trace(field.multiply(1 << bit, powers)) for bit in range(degree)]
    return _products(bits, blocks, order)


def _products(bits: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """(rows, columns) int8: row c is the product of those ``bits[b]`` (columns,) for which c has bit b."""
    signs = np.ones((rows, columns), dtype=np.int8)
    for bit in range((rows - 1).bit_length()):
        low = 1 << bit
        high = signs[low : 2 * low]
        np.multiply(signs[: len(high)], bits[bit].astype(np.int8), out=high)
    return signs


@lru_cache
def exponents(degree: int) -> tuple[int, ...]:
    """The odd leaders e > 1 of the cyclotomic cosets mod 2^degree − 1 of full size: 3, 5, 7, … for most."""
    order = (1 << degree) - 1
    usable: list[int] = []
    for exponent in range(3, order, 2):
        coset = {(exponent << shift) % order for shift in range(degree)}
        if len(coset) == degree and min(coset) == exponent:
            usable.append(exponent)
        if degree * (1 + len(usable)) >= ENOUGH_BITS:
            break
    return tuple(usable)


class GaloisField:
    """GF(2^m) by tables; an element is an integer below 2^m whose bits are its coefficients, 2 generates."""

    def __init__(self, degree: int) -> None:
        self.degree = degree
        self.size = 1 << degree
        self.antilog = np.array(_primitive_powers(degree))  # (2^m − 1,): 2^k
        self.log = np.zeros(self.size, dtype=np.int64)  # (2^m,): the k of 2^k; that of 0 has no meaning
        self.log[self.antilog] = np.arange(self.size - 1)

    @classmethod
    @lru_cache
    def of_degree(cls, degree: int) -> Self:
        """The field, its tables made once."""
        return cls(degree)

    def multiply(self, a: int | np.ndarray, b: int | np.ndarray) -> np.ndarray:
        """The products, element by element."""
        product = self.antilog[(self.log[a] + self.log[b]) % (self.size - 1)]
        return np.where((np.asarray(a) == 0) | (np.asarray(b) == 0), 0, product)

    def power(self, a: np.ndarray, exponent: int) -> np.ndarray:
        """The elements to a positive power."""
        return np.where(a == 0, 0, self.antilog[self.log[a] * exponent % (self.size - 1)])

    def trace(self, a: np.ndarray) -> np.ndarray:
        """Tr(a) = a + a² + a⁴ + … + a^(2^(m−1)), each 0 or 1."""
        total = np.zeros_like(a)
        for shift in range(self.degree):
            total ^= self.power(a, 1 << shift)
        return total


def _primitive_powers(degree: int) -> list[int]:
    """x⁰ = 1, x¹, … modulo the smallest primitive polynomial of that degree, as integers."""
    size = 1 << degree
    if degree > MAX_DEGREE:
        most = 1 << MAX_DEGREE
        raise InputError("dim", "too large for the Hadamard rule", found=f"N = {size}", expected=f"at most {most}")
    for polynomial in range(size + 1, 2 * size, 2):
        powers, element = [1], 2 if degree > 1 else 1
        while element != 1:
            powers.append(element)
            element <<= 1
            element ^= polynomial if element & size else 0
        if len(powers) == size - 1:
            return powers
    raise AssertionError("every field has a primitive polynomial")
