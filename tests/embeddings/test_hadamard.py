"""The Hadamard rule and the authors' own: distinct codewords, known coherence, little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.linalg

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.diagnostics import distinct_rows
from embeddings.methods import hadamard


def words(size: int) -> CorpusStatistics:
    return CorpusStatistics([f"w{i}" for i in range(size)], np.ones(size, dtype=np.int64))


def signs(method: str, size: int, dim: int) -> np.ndarray:
    return np.sign(embeddings.build(method, words(size), dim).vectors).astype(int)


def coherence(codewords: np.ndarray) -> float:
    gram = np.abs(codewords @ codewords.T)
    np.fill_diagonal(gram, 0)
    return gram.max() / codewords.shape[1]


def multiply(a: int, b: int, polynomial: int) -> int:
    """The product of two polynomials over GF(2), modulo a third: long multiplication, long division."""
    product = 0
    for bit in range(b.bit_length()):
        if b >> bit & 1:
            product ^= a << bit
    while product.bit_length() >= polynomial.bit_length():
        product ^= polynomial << product.bit_length() - polynomial.bit_length()
    return product


@pytest.mark.parametrize(("degree", "polynomial"), [(3, 0b1011), (4, 0b10011), (6, 0b1000011)])
def test_field_is_polynomial_arithmetic(degree: int, polynomial: int) -> None:
    field = hadamard.GaloisField.of_degree(degree)
    a, b = np.meshgrid(np.arange(field.size), np.arange(field.size))
    expected = [[multiply(x, y, polynomial) for x in range(field.size)] for y in range(field.size)]
    np.testing.assert_array_equal(field.multiply(a, b), expected)
    cubes = [multiply(x, multiply(x, x, polynomial), polynomial) for x in range(field.size)]
    np.testing.assert_array_equal(field.power(np.arange(field.size), 3), cubes)
    trace = field.trace(np.arange(field.size))
    assert set(trace) == {0, 1}
    np.testing.assert_array_equal(trace[a ^ b], trace[a] ^ trace[b])


@pytest.mark.parametrize("degree", [1, 2, 5, 10, 13])
def test_the_field_has_a_generator(degree: int) -> None:
    field = hadamard.GaloisField.of_degree(degree)
    assert sorted(field.antilog) == list(range(1, 1 << degree))


def test_small_matrix_follows_the_formula() -> None:
    """Row c·P + i is H_P[i] ∘ (−1)^Tr(c·x³), by loops."""
    field, polynomial = hadamard.GaloisField.of_degree(3), 0b1011
    sylvester = scipy.linalg.hadamard(8)
    codewords = signs("hadamard", 64, 8)
    for block in range(8):
        for x in range(8):
            cube = multiply(x, multiply(x, x, polynomial), polynomial)
            sign = 1 - 2 * int(field.trace(np.array(multiply(block, cube, polynomial))))
            np.testing.assert_array_equal(codewords[8 * block : 8 * block + 8, x], sylvester[:, x] * sign)


@pytest.mark.parametrize(("dim", "expected"), [(512, 0.0625), (256, 0.125)])
def test_coherence_at_the_size_of_wikitext2(dim: int, expected: float) -> None:
    """The product of two rows is again a row, of a block below 128 (or 256): the largest mean is the coherence."""
    size = 33_278
    codewords = hadamard.build(words(65_536), dim, 1, hadamard.Options(), lambda *_: None)
    assert np.abs(codewords.mean(axis=1))[1:].max() == expected
    assert distinct_rows(codewords[:size]) == size
    one, two = np.random.default_rng(1).integers(0, size, (2, 200))
    np.testing.assert_array_equal(codewords[one] * codewords[two], codewords[one ^ two])
    some = np.random.default_rng(2).choice(size, 500, replace=False)
    assert coherence(codewords[some]) == expected


@pytest.mark.parametrize(("size", "dim"), [(64, 8), (4096, 16), (5000, 32), (300, 12), (20_000, 100)])
def test_no_row_repeats(size: int, dim: int) -> None:
    """All rows the rule has at 8 and 16 columns (x⁵ over GF(16) would repeat), a third term, no power of two."""
    codewords = signs("hadamard", size, dim)
    assert codewords.shape == (size, dim)
    assert len(np.unique(codewords, axis=0)) == size


def test_third_term_keeps_coherence_low() -> None:
    assert coherence(signs("hadamard", 3 * 1024, 32)) == pytest.approx(0.5)


@pytest.mark.parametrize(("size", "dim"), [(16, 16), (5, 16), (3, 16), (1, 16), (1, 1), (2, 2), (7, 12)])
def test_up_to_n_words_are_sylvester_rows(size: int, dim: int) -> None:
    expected = scipy.linalg.hadamard(16 if dim > 8 else dim)[:size, :dim]
    np.testing.assert_array_equal(signs("hadamard", size, dim), expected)


@pytest.mark.parametrize(("size", "dim", "rows", "enough"), [(65, 8, "64", 16), (5, 4, "4", 8), (2, 1, "1", 2)])
def test_more_words_than_rows_is_an_error(size: int, dim: int, rows: str, enough: int) -> None:
    with pytest.raises(InputError, match=rf"has {rows} rows at N = {dim} .*N = {enough} is enough"):
        embeddings.build("hadamard", words(size), dim)
    assert hadamard.row_count(enough) >= size > hadamard.row_count(enough // 2)


def test_rows_that_dropped_columns_made_equal_are_an_error() -> None:
    with pytest.raises(InputError, match=r"repeat others in the first 5 of 8 columns.* N = 8 is enough"):
        embeddings.build("hadamard", words(60), 5)


@pytest.mark.parametrize(("size", "dim"), [(3, 16), (10, 65_536), (1000, 4096)])
def test_memory_is_that_of_the_result(size: int, dim: int) -> None:
    """Not P × P: at N = 65,536 that would be 4 GB in bytes, 34 GB as scipy builds it."""
    tracemalloc.start()
    hadamard.build(words(size), dim, 1, hadamard.Options(), lambda *_: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * size * dim + 2_000_000


def test_block_signs_are_those_of_the_codewords() -> None:
    """What a fast transform multiplies block c by: the first row of the block, since row 0 of Sylvester is 1."""
    flips = hadamard.block_signs(40, 32)
    assert flips.dtype == np.int8
    np.testing.assert_array_equal(flips, signs("hadamard", 40 * 32, 32)[::32])
    np.testing.assert_array_equal(flips[0], np.ones(32))
    with pytest.raises(InputError, match="at most 8"):
        hadamard.block_signs(9, 8)


def test_the_authors_rule_repeats_its_rows() -> None:
    np.testing.assert_array_equal(signs("sylvester", 40, 8), scipy.linalg.hadamard(64)[:40, :8])
    codewords = signs("sylvester", 2000, 512)
    assert len(np.unique(codewords, axis=0)) == 512
    np.testing.assert_array_equal(codewords[512:1024], codewords[:512])
    np.testing.assert_array_equal(signs("sylvester", 20, 12), scipy.linalg.hadamard(32)[:20, :12])
