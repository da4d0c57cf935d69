"""What a run was set to do, and which learning rates it used, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from adaptive_lr.statistics import MEASURED_STATISTICS, Phase
from adaptive_lr.trace.reader import TraceRecord
from adaptive_lr.trace.wording import done, listed, number, plural, steps_in_words, times

MAX_GROUPS = 3
"""Parameter groups that are described one by one."""


def setting(record: TraceRecord) -> Iterator[str]:
    """Optimizer, controllers, bounds, and what the record holds."""
    header = record.header
    groups = f" ({listed(header.groups)})" if 1 < len(header.groups) <= MAX_GROUPS else ""
    yield f"{header.optimizer} with {plural(len(header.groups), 'parameter group')}{groups}."
    names = header.controller_names
    if names:
        yield f"{'Controllers' if len(names) > 1 else 'Controller'}: {listed(names)}."
    if header.min_factor > 0.0 or header.max_factor < math.inf:
        yield f"The total factor is held within {number(header.min_factor)} and {number(header.max_factor)}."
    if header.lag:
        yield f"A decision acts {plural(header.lag, 'update')} later than it could (lag {header.lag})."
    reference = reference_lr(record)
    if reference is not None:
        yield f"What is told as multiples of the reference multiplies a learning rate of {number(reference)}."
    if header.shadow:
        yield "Shadow run: everything was decided and recorded, and nothing was changed."
    if record.resumes:
        yield f"A saved state was loaded at {steps_in_words(sorted(set(record.resumes)), 'update')}."
    if record.earlier_runs:
        yield (
            f"{plural(record.earlier_runs, 'earlier run')} {'is' if record.earlier_runs == 1 else 'are'} in the same "
            "folder; this is the last."
        )
    if not record.complete:
        yield "What came before that is not in this record."


def rates(record: TraceRecord) -> Iterator[str]:
    """Which learning rates were used, and what the reflex and the host did."""
    updates = record.updates
    if not updates:
        yield "No update is on record."
        return
    yield f"{plural(len(updates), 'update')} on record, {updates[0].step:,} to {updates[-1].step:,}."
    names = record.header.groups
    if len(names) > MAX_GROUPS:
        base = np.array([record.base_lrs(index) for index in range(len(names))])
        if not np.isnan(base[:, [0, -1]]).any():
            yield (
                f"The base learning rates began at {number(base[:, 0].min())} to {number(base[:, 0].max())} "
                f"and ended at {number(base[:, -1].min())} to {number(base[:, -1].max())}."
            )
    else:
        for index, name in enumerate(names):
            yield from _rates_of(record, index, f" of group {name}" if len(names) > 1 else "")
    factors = record.factors()
    changed = factors[factors != 1.0]
    if len(changed):
        would = "would have differed" if record.header.shadow else "differed"
        yield (
            f"The factor {would} from 1 in {plural(len(changed), 'update')}, "
            f"between {number(factors.min())} and {number(factors.max())}."
        )
    skipped = sum(update.skipped for update in updates)
    damped = sum(update.damp < 1.0 and not update.skipped for update in updates)
    reflexes = [done(action, count) for action, count in (("damp", damped), ("skip", skipped)) if count]
    if reflexes:
        yield f"The reflex {listed(reflexes)}."
    stalls = [update.stalls for update in updates if update.stalls is not None]
    if stalls:
        waited = [count for count in stalls if count]
        yield (
            f"The host waited for the device {times(sum(waited))}, in {plural(len(waited), 'update')}."
            if waited
            else "The host never waited for the device."
        )
    if record.update_ratios and record.update_ratios[-1].values:
        yield _ratios(record)
    yield from unreported(record)


def unreported(record: TraceRecord) -> Iterator[str]:
    """What the laws waited for in vain."""
    reported = dict.fromkeys(
        name for row in record.rows if row.phase in (Phase.AFTER, Phase.OBSERVATION) for name in row.values
    )
    if record.rows and not any(row.phase in (Phase.AFTER, Phase.OBSERVATION) for row in record.rows):
        yield "control.step(loss) was never called, so that no law saw a whole step."
    for controller in record.header.controllers if record.rows else ():
        monitor = controller["configuration"].get("monitor")
        if isinstance(monitor, str) and monitor not in reported:
            metrics = [name for name in reported if name not in MEASURED_STATISTICS]
            known = f"reported were {listed(metrics)}" if metrics else "none was reported"
            yield f"{controller['name']} never saw its metric {monitor!r}: {known}."


def _rates_of(record: TraceRecord, index: int, which: str) -> Iterator[str]:
    used, base = record.lrs(index), record.base_lrs(index)
    if np.isnan(base).all():
        return  # the optimizer makes its own
    if (base == base[0]).all():
        sentence = f"The base learning rate{which} was {number(base[0])} throughout"
    else:
        sentence = (
            f"The base learning rate{which} went from {number(base[0])} to {number(base[-1])}, "
            f"{number(np.nanmax(base))} at the highest"
        )
    if np.array_equal(used, base, equal_nan=True):
        yield f"{sentence}, and was used as it was."
    else:
        yield (
            f"{sentence}; what was used went from {number(used[0])} to {number(used[-1])}, "
            f"{number(np.nanmax(used))} at the highest."
        )


def _ratios(record: TraceRecord) -> str:
    last = record.update_ratios[-1]
    largest = max(last.values, key=lambda name: math.inf if math.isnan(last.values[name]) else last.values[name])
    estimate = " (an estimate)" if last.errors.get(largest) else ""
    return (
        f"The update-to-weight ratio of each tensor is on record for {plural(len(record.update_ratios), 'update')}; "
        f"in update {last.step:,} it was largest in {largest}, {number(last.values[largest])}{estimate}."
    )


def reference_lr(record: TraceRecord) -> float | None:
    """The learning rate that levels of a sweep multiply, where it is on record."""
    starts = (row.values.get("reference_lr") for row in record.rows[:1] if row.phase is Phase.START)
    return next(starts, None)
