"""Stage 1 of the Triton backend: one program reads one chunk of one tensor, and writes a row of partial statistics.

Elements are added in float32 lanes (float64 for float64 tensors), a few dozen per lane, and the lanes in float64.
The README beside this file says what the alignment hints and the shape of the mask are for.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# ruff: noqa: N803, N806, SIM300 - compile-time constants are written in capitals, as everywhere in Triton
from __future__ import annotations

import triton
import triton.language as tl

PARTIALS = (
    "squares",
    "largest",
    "mean",
    "deviations",
    "nonfinite",
    "param_squares",
    "momentum_squares",
    "dot",
    "paired_squares",
)
"""Rows of a table of partials [row][part], float64. `deviations` is the sum of squared deviations from the mean,
`paired_squares` is that of the gradients that have a momentum buffer."""

SQUARES, LARGEST, MEAN, DEVIATIONS, NONFINITE, PARAM_SQUARES, MOMENTUM_SQUARES, DOT, PAIRED_SQUARES = map(
    tl.constexpr, range(len(PARTIALS))
)

SAFE_SQUARES = tl.constexpr(1e-26)
"""A sum of squares above this lost nothing that counts to underflow: 2**16 times the least normal is 8e-34."""


@triton.jit
def magnitude_bits(x):
    """Magnitudes as integers, in an order that puts infinity above all numbers and NaN above infinity."""
    magnitude = tl.abs(x)
    return magnitude.to(tl.int64 if x.dtype == tl.float64 else tl.int32, bitcast=True)


@triton.jit
def _read(pointer, at, end, rows, lanes, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Elements `at + rows + lanes` before `end`, widened; 0 beyond."""
    block = pointer + at
    left = end - at
    if ALIGNED:
        # On the pointer, in bytes, and on the bound, in elements: without either, every element is a load of its own.
        block = tl.multiple_of(block, 16)
        left = tl.multiple_of(left, 16)
    offsets = rows[:, None] + lanes[None, :]
    return tl.load(block + offsets, mask=offsets < left, other=0).to(DTYPE)


@triton.jit
def _read_again(pointer, n, lanes, WIDTH: tl.constexpr, MOMENTS_READ: tl.constexpr):
    """Non-finite count, mean and sum of squared deviations of a chunk in two passes, in float64."""
    rows = tl.arange(0, 1)
    count = tl.zeros((WIDTH,), tl.int32)
    total = tl.zeros((WIDTH,), tl.float64)
    at = 0
    while at < n:
        x = tl.sum(_read(pointer, at, n, rows, lanes, tl.float64, False), 0)
        count += tl.where(tl.abs(x) < float("inf"), 0, 1)
        total += x
        at += WIDTH
    mean = tl.sum(total, 0) / n
    squares = tl.zeros((WIDTH,), tl.float64)
    if MOMENTS_READ:
        at = 0
        while at < n:
            x = tl.sum(_read(pointer, at, n, rows, lanes, tl.float64, False), 0)
            squares += tl.where(at + lanes < n, (x - mean) * (x - mean), 0.0)
            at += WIDTH
    return tl.sum(count, 0).to(tl.float64), mean, tl.sum(squares, 0)


@triton.jit
def _add(
    gradient,
    parameter,
    momentum,
    at,
    end,
    rows,
    lanes,
    squares,
    largest,
    total,
    param_squares,
    momentum_squares,
    dot,
    LARGEST_READ: tl.constexpr,
    MOMENTS_READ: tl.constexpr,
    DOT_READ: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Add rows of elements to the lanes; all that is to be read is asked for before anything is added."""
    if gradient is not None:
        x = _read(gradient, at, end, rows, lanes, squares.dtype, ALIGNED)
    if parameter is not None:
        p = _read(parameter, at, end, rows, lanes, param_squares.dtype, ALIGNED)
    if momentum is not None:
        m = _read(momentum, at, end, rows, lanes, momentum_squares.dtype, ALIGNED)
    if gradient is not None:
        squares += tl.sum(x * x, 0)
        if LARGEST_READ:
            largest = tl.maximum(largest, tl.max(magnitude_bits(x), 0))
        if MOMENTS_READ:
            total += tl.sum(x, 0)
    if parameter is not None:
        param_squares += tl.sum(p * p, 0)
    if momentum is not None:
        momentum_squares += tl.sum(m * m, 0)
        if DOT_READ:
            dot += tl.sum(x.to(dot.dtype) * m.to(dot.dtype), 0)
    return squares, largest, total, param_squares, momentum_squares, dot


@triton.jit(do_not_specialize=["num_entries", "num_chunks", "first_chunk", "chunk"])
def measure_chunks(
    addresses,  # int64 [3][num_entries]: addresses of gradients, parameters, momenta
    numels,  # int64 [num_entries]
    entry_chunks,  # int32 [num_entries]: first chunk of each entry
    chunk_entries,  # int32 [num_chunks]: entry of each chunk
    partials,  # float64 [len(PARTIALS)][num_chunks]
    num_entries,
    num_chunks,
    first_chunk,  # of this launch
    chunk,  # elements of a chunk, a multiple of 16
    G: tl.constexpr,  # dtypes in memory; None where a stream is not read
    P: tl.constexpr,
    M: tl.constexpr,
    LARGEST_READ: tl.constexpr,
    MOMENTS_READ: tl.constexpr,
    NONFINITE_READ: tl.constexpr,
    DOT_READ: tl.constexpr,
    ALIGNED: tl.constexpr,  # every stream of every entry starts at a multiple of 16 bytes
    WIDTH: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Measure one chunk."""
    G_SUM: tl.constexpr = tl.float64 if G == tl.float64 else tl.float32
    P_SUM: tl.constexpr = tl.float64 if P == tl.float64 else tl.float32
    M_SUM: tl.constexpr = tl.float64 if M == tl.float64 else tl.float32
    DOT_SUM: tl.constexpr = tl.float64 if G == tl.float64 or M == tl.float64 else tl.float32
    index = tl.program_id(0) + first_chunk
    entry = tl.load(chunk_entries + index)
    start = (index - tl.load(entry_chunks + entry)).to(tl.int64) * chunk
    n = tl.minimum(tl.load(numels + entry) - start, chunk).to(tl.int32)
    gradient = None
    parameter = None
    momentum = None
    if G is not None:
        gradient = tl.load(addresses + entry).to(tl.pointer_type(G)) + start
    if P is not None:
        parameter = tl.load(addresses + num_entries + entry).to(tl.pointer_type(P)) + start
    if M is not None:
        momentum = tl.load(addresses + 2 * num_entries + entry).to(tl.pointer_type(M)) + start

    lanes = tl.arange(0, WIDTH)
    squares = tl.zeros((WIDTH,), G_SUM)
    largest = magnitude_bits(squares)
    total = tl.zeros((WIDTH,), G_SUM)
    param_squares = tl.zeros((WIDTH,), P_SUM)
    momentum_squares = tl.zeros((WIDTH,), M_SUM)
    dot = tl.zeros((WIDTH,), DOT_SUM)
    rows = tl.arange(0, UNROLL) * WIDTH
    body = n // 16 * 16 if ALIGNED else n
    at = 0
    while at < body:
        squares, largest, total, param_squares, momentum_squares, dot = _add(
            gradient, parameter, momentum, at, body, rows, lanes,
            squares, largest, total, param_squares, momentum_squares, dot,
            LARGEST_READ, MOMENTS_READ, DOT_READ, ALIGNED,
        )  # fmt: skip
        at += UNROLL * WIDTH
    if body < n:  # fewer than 16 elements
        squares, largest, total, param_squares, momentum_squares, dot = _add(
            gradient, parameter, momentum, body, n, tl.arange(0, 1), lanes,
            squares, largest, total, param_squares, momentum_squares, dot,
            LARGEST_READ, MOMENTS_READ, DOT_READ, False,
        )  # fmt: skip

    row = partials + index
    if P is not None:
        tl.store(row + PARAM_SQUARES * num_chunks, tl.sum(param_squares.to(tl.float64), 0))
    if M is not None:
        tl.store(row + MOMENTUM_SQUARES * num_chunks, tl.sum(momentum_squares.to(tl.float64), 0))
    if DOT_READ:
        tl.store(row + DOT * num_chunks, tl.sum(dot.to(tl.float64), 0))
    if LARGEST_READ:
        tl.store(row + LARGEST * num_chunks, tl.max(largest, 0).to(G_SUM, bitcast=True).to(tl.float64))
    if G is not None:
        square = tl.sum(squares.to(tl.float64), 0)
        tl.store(row + SQUARES * num_chunks, square)
        if DOT_READ:
            tl.store(row + PAIRED_SQUARES * num_chunks, square)
        if MOMENTS_READ or NONFINITE_READ:
            count = tl.full((), 0.0, tl.float64)
            mean = count
            deviations = count
            doubtful = not (square < float("inf"))
            if MOMENTS_READ:
                mean = tl.sum(total.to(tl.float64), 0) / n
                mean_squares = mean * mean * n
                deviations = square - mean_squares
                # The difference loses at most one bit where the mean is below the deviation.
                safe = (square > SAFE_SQUARES and 2 * mean_squares <= square) or (square == 0 and mean == 0)
                doubtful = doubtful or not safe
            if doubtful:
                count, mean, deviations = _read_again(gradient, n, lanes, WIDTH, MOMENTS_READ)
            if NONFINITE_READ:
                tl.store(row + NONFINITE * num_chunks, count)
            if MOMENTS_READ:
                tl.store(row + MEAN * num_chunks, mean)
                tl.store(row + DEVIATIONS * num_chunks, deviations)
