"""Stages 2 and 3 of the Triton backend: parts become wholes, in a fixed order, in float64.

Stage 2 makes tensors of chunks, stage 3 makes groups, and the overall, of tensors. Both are the same kernel.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton
from __future__ import annotations

import triton
import triton.language as tl

from adaptive_lr_kernels.chunk_kernel import (
    DEVIATIONS,
    DOT,
    LARGEST,
    MEAN,
    MOMENTUM_SQUARES,
    NONFINITE,
    PAIRED_SQUARES,
    PARAM_SQUARES,
    SQUARES,
)

VALUES = ("grad_norm", "grad_max", "grad_mean", "grad_variance", "param_norm", "momentum_norm", "alignment")
"""Rows of the table of results [row][column], float64; `nonfinite` has an int64 vector of its own."""

GRAD_NORM, GRAD_MAX, GRAD_MEAN, GRAD_VARIANCE, PARAM_NORM, MOMENTUM_NORM, ALIGNMENT = map(
    tl.constexpr, range(len(VALUES))
)


@triton.jit
def _part(at, lanes, length, first, members, stored, sizes, chunk, MEMBERS: tl.constexpr):
    """Which part each lane takes, whether there is one, and how many elements it has (0 where there is none)."""
    mask = at + lanes < length
    part = first + at + lanes
    if MEMBERS:
        part = tl.load(members + part, mask=mask, other=0).to(tl.int64)
        elements = tl.load(sizes + part, mask=mask, other=0)
    else:
        elements = tl.where(mask, tl.minimum(stored - (at + lanes).to(tl.int64) * chunk, chunk), 0)
    return part, mask, elements.to(tl.float64)


@triton.jit(do_not_specialize=["num_parts", "num_columns", "first_column", "chunk"])
def merge_parts(
    parts,  # float64 [len(PARTIALS)][num_parts]
    segments,  # int64 [4][num_columns]: first part, number of parts, elements, elements stored in the parts
    members,  # int32: the parts that segments count in, where MEMBERS
    sums,  # float64 [len(PARTIALS)][num_columns]
    values,  # float64 [len(VALUES)][num_columns]
    nonfinite,  # int64 [num_columns]
    num_parts,
    num_columns,
    first_column,
    chunk,  # elements of a chunk
    MEMBERS: tl.constexpr,  # parts are columns and have sizes of their own; else they are chunks
    G_READ: tl.constexpr,
    P_READ: tl.constexpr,
    M_READ: tl.constexpr,
    LARGEST_READ: tl.constexpr,
    MOMENTS_READ: tl.constexpr,
    NONFINITE_READ: tl.constexpr,
    DOT_READ: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Merge the parts of one segment into one column of sums and results.

    What is not read is neither loaded nor stored. The elements that are not stored in any part are zeros.
    """
    column = tl.program_id(0) + first_column
    first = tl.load(segments + column)
    length = tl.load(segments + num_columns + column)
    sizes = segments + 2 * num_columns
    size = tl.load(sizes + column)
    stored = tl.load(segments + 3 * num_columns + column)
    lanes = tl.arange(0, WIDTH)
    squares = tl.zeros((WIDTH,), tl.float64)
    largest = tl.zeros((WIDTH,), tl.int64)
    total = tl.zeros((WIDTH,), tl.float64)
    count = tl.zeros((WIDTH,), tl.float64)
    param_squares = tl.zeros((WIDTH,), tl.float64)
    momentum_squares = tl.zeros((WIDTH,), tl.float64)
    dot = tl.zeros((WIDTH,), tl.float64)
    paired_squares = tl.zeros((WIDTH,), tl.float64)
    at = 0
    while at < length:
        part, mask, elements = _part(at, lanes, length, first, members, stored, sizes, chunk, MEMBERS)
        entry = parts + part
        if G_READ:
            squares += tl.load(entry + SQUARES * num_parts, mask=mask, other=0.0)
        if LARGEST_READ:
            bits = tl.load(entry + LARGEST * num_parts, mask=mask, other=0.0).to(tl.int64, bitcast=True)
            largest = tl.maximum(largest, bits)
        if MOMENTS_READ:
            total += elements * tl.load(entry + MEAN * num_parts, mask=mask, other=0.0)
        if NONFINITE_READ:
            count += tl.load(entry + NONFINITE * num_parts, mask=mask, other=0.0)
        if P_READ:
            param_squares += tl.load(entry + PARAM_SQUARES * num_parts, mask=mask, other=0.0)
        if M_READ:
            momentum_squares += tl.load(entry + MOMENTUM_SQUARES * num_parts, mask=mask, other=0.0)
        if DOT_READ:
            dot += tl.load(entry + DOT * num_parts, mask=mask, other=0.0)
            paired_squares += tl.load(entry + PAIRED_SQUARES * num_parts, mask=mask, other=0.0)
        at += WIDTH

    sum_row = sums + column
    value_row = values + column
    if G_READ:
        square = tl.sum(squares, 0)
        tl.store(sum_row + SQUARES * num_columns, square)
        tl.store(value_row + GRAD_NORM * num_columns, tl.sqrt(square))
    if LARGEST_READ:
        magnitude = tl.max(largest, 0).to(tl.float64, bitcast=True)
        tl.store(sum_row + LARGEST * num_columns, magnitude)
        tl.store(value_row + GRAD_MAX * num_columns, magnitude)
    if NONFINITE_READ:
        number = tl.sum(count, 0)
        tl.store(sum_row + NONFINITE * num_columns, number)
        tl.store(nonfinite + column, number.to(tl.int64))
    if P_READ:
        param_square = tl.sum(param_squares, 0)
        tl.store(sum_row + PARAM_SQUARES * num_columns, param_square)
        tl.store(value_row + PARAM_NORM * num_columns, tl.sqrt(param_square))
    if M_READ:
        momentum_square = tl.sum(momentum_squares, 0)
        momentum_norm = tl.sqrt(momentum_square)
        tl.store(sum_row + MOMENTUM_SQUARES * num_columns, momentum_square)
        tl.store(value_row + MOMENTUM_NORM * num_columns, momentum_norm)
        if DOT_READ:
            product = tl.sum(dot, 0)
            paired_square = tl.sum(paired_squares, 0)
            tl.store(sum_row + DOT * num_columns, product)
            tl.store(sum_row + PAIRED_SQUARES * num_columns, paired_square)
            grad_norm = tl.sqrt(paired_square)
            nothing = (grad_norm == 0) | (momentum_norm == 0)
            finite = (grad_norm < float("inf")) & (momentum_norm < float("inf"))
            cosine = product / tl.where(finite & ~nothing, grad_norm * momentum_norm, 1.0)
            cosine = tl.where(nothing, 0.0, tl.minimum(tl.maximum(cosine, -1.0), 1.0))
            tl.store(value_row + ALIGNMENT * num_columns, tl.where(finite, cosine, float("nan")))
    if MOMENTS_READ:
        divisor = tl.maximum(size, 1).to(tl.float64)
        mean = tl.sum(total, 0) / divisor
        deviations = tl.zeros((WIDTH,), tl.float64)
        at = 0
        while at < length:
            part, mask, elements = _part(at, lanes, length, first, members, stored, sizes, chunk, MEMBERS)
            shift = tl.load(parts + MEAN * num_parts + part, mask=mask, other=0.0) - mean
            inner = tl.load(parts + DEVIATIONS * num_parts + part, mask=mask, other=0.0)
            deviations += tl.where(elements > 0, inner + elements * shift * shift, 0.0)
            at += WIDTH
        zeros = (size - stored).to(tl.float64)
        deviation = tl.sum(deviations, 0) + tl.where(zeros > 0, zeros * mean * mean, 0.0)
        tl.store(sum_row + MEAN * num_columns, mean)
        tl.store(sum_row + DEVIATIONS * num_columns, deviation)
        tl.store(value_row + GRAD_MEAN * num_columns, mean)
        tl.store(value_row + GRAD_VARIANCE * num_columns, deviation / divisor)
