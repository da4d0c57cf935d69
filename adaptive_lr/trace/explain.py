"""A trace in words: what was changed in a run, when, and why."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adaptive_lr.controllers.composition import Decision
from adaptive_lr.statistics import Phase
from adaptive_lr.trace.reader import TraceRecord

WIDTH = 100
"""Columns."""

MAX_EPISODES = 30
"""Lines the story may have. Where there would be more, decisions further apart are told together."""

MAX_GROUPS = 3
"""Parameter groups that are described one by one."""

_SAME_EPISODE = 50  # steps between decisions told together, before any limit on lines; or 2 % of the run if more

_REFLEXES = {"damp", "clip", "skip"}  # of one update; the value that decided is that update's own

_DONE = {  # action -> what was done once, and several times
    "damp": ("damped the gradient", "damped {} updates"),
    "clip": ("clipped the gradient", "clipped {} updates"),
    "skip": ("skipped the update", "skipped {} updates"),
    "back off": ("backed off", "backed off {}"),
    "brake": ("braked", "braked {}"),
    "cut": ("cut the factor", "cut the factor {}"),
    "recover": ("recovered", "recovered {}"),
    "rewind": ("rewound the run", "rewound the run {}"),
    "rescue": ("took the run back and cut the factor", "took the run back and cut the factor {}"),
    "hold": ("held the learning rate", "adjusted the held learning rate {}"),
    "sweep": ("began a sweep", "began a sweep {}"),
    "trial": ("made a trial update", "made a trial update {}"),
    "peak": ("set the peak", "set the peak {}"),
    "rehearse": ("began rehearsals", "began rehearsals {}"),
    "rehearsed": ("rehearsed", "rehearsed {}"),
    "confirm": ("chose among rehearsals", "chose among rehearsals {}"),
    "probe": ("tried ten times the peak", "tried higher peaks {}"),
    "compare": ("took it back to compare", "took it back to compare {}"),
    "raise": ("raised the peak", "raised the peak {}"),
    "clear": ("lifted the cut", "lifted the cut {}"),
    "release": ("let the learning rate go", "let the learning rate go {}"),
    "stop": ("asked to stop", "asked to stop {}"),
}

_WORDS = {
    "grad_norm": "gradient norm",
    "grad_score": "gradient score",
    "grad_max": "largest gradient",
    "nonfinite": "number of non-finite gradients",
    "param_norm": "parameter norm",
    "momentum_norm": "momentum norm",
    "alignment": "gradient-momentum alignment",
    "update_ratio": "update-to-weight ratio",
    "loss": "training loss",
}


@dataclass
class _Episode:
    """Decisions of one controller that are told together."""

    controller: str
    decisions: list[Decision]

    @property
    def first(self) -> Decision:
        return self.decisions[0]

    @property
    def last(self) -> Decision:
        return self.decisions[-1]


def explain(record: TraceRecord) -> str:
    """Tell in words what the controllers changed in a run, when, and why.

    Similar decisions are told together: as one line for a run of the same action by the same controller, and for a
    run with very many changes as one line for all that a controller did in a stretch of steps.

    Args:
        record: a run (see `read_trace`).

    Returns:
        Several paragraphs of text, `WIDTH` columns wide.
    """
    paragraphs = [_fill(" ".join(_setting(record))), _fill(" ".join(_rates(record)))]
    if record.decisions:
        conditional = " (none of it was done: this was a shadow run)" if record.header.shadow else ""
        paragraphs.append(f"What was changed, and why{conditional}:")
        paragraphs.append("\n".join(_story(record)))
        paragraphs.append("In all:\n" + "\n".join(_counts(record.decisions)))
        paragraphs.append(_fill(" ".join(_end(record))))
    elif record.header.controllers:
        paragraphs.append("Nothing was changed: no controller saw a reason to.")
    else:
        paragraphs.append("Nothing was changed: there was no controller.")
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _setting(record: TraceRecord) -> Iterator[str]:
    header = record.header
    groups = f" ({_list(header.groups)})" if 1 < len(header.groups) <= MAX_GROUPS else ""
    yield f"{header.optimizer} with {_plural(len(header.groups), 'parameter group')}{groups}."
    names = header.controller_names
    if names:
        yield f"{'Controllers' if len(names) > 1 else 'Controller'}: {_list(names)}."
    if header.min_factor > 0.0 or header.max_factor < math.inf:
        yield f"The total factor is held within {_number(header.min_factor)} and {_number(header.max_factor)}."
    if header.lag:
        yield f"A decision acts {_plural(header.lag, 'update')} later than it could (lag {header.lag})."
    if header.shadow:
        yield "Shadow run: everything was decided and recorded, and nothing was changed."
    if record.resumes:
        yield f"A saved state was loaded at {_steps_in_words(sorted(set(record.resumes)), 'update')}."
    if not record.complete:
        yield "What came before that is not in this record."


def _rates(record: TraceRecord) -> Iterator[str]:
    updates = record.updates
    if not updates:
        yield "No update is on record."
        return
    yield f"{_plural(len(updates), 'update')} on record, {updates[0].step:,} to {updates[-1].step:,}."
    names = record.header.groups
    if len(names) > MAX_GROUPS:
        base = np.array([record.base_lrs(index) for index in range(len(names))])
        if not np.isnan(base[:, [0, -1]]).any():
            yield (
                f"The base learning rates began at {_number(base[:, 0].min())} to {_number(base[:, 0].max())} "
                f"and ended at {_number(base[:, -1].min())} to {_number(base[:, -1].max())}."
            )
    else:
        for index, name in enumerate(names):
            yield from _rates_of(record, index, f" of group {name}" if len(names) > 1 else "")
    factors = record.factors()
    changed = factors[factors != 1.0]
    if len(changed):
        would = "would have differed" if record.header.shadow else "differed"
        yield (
            f"The factor {would} from 1 in {_plural(len(changed), 'update')}, "
            f"between {_number(factors.min())} and {_number(factors.max())}."
        )
    skipped = sum(update.skipped for update in updates)
    damped = sum(update.damp < 1.0 and not update.skipped for update in updates)
    reflexes = [_done(action, count) for action, count in (("damp", damped), ("skip", skipped)) if count]
    if reflexes:
        yield f"The reflex {_list(reflexes)}."
    stalls = [update.stalls for update in updates if update.stalls is not None]
    if stalls:
        waited = [count for count in stalls if count]
        yield (
            f"The host waited for the device {_times(sum(waited))}, in {_plural(len(waited), 'update')}."
            if waited
            else "The host never waited for the device."
        )
    if record.update_ratios and record.update_ratios[-1].values:
        yield _ratios(record)


def _rates_of(record: TraceRecord, index: int, which: str) -> Iterator[str]:
    used, base = record.lrs(index), record.base_lrs(index)
    if np.isnan(base).all():
        return  # the optimizer makes its own
    if (base == base[0]).all():
        sentence = f"The base learning rate{which} was {_number(base[0])} throughout"
    else:
        sentence = (
            f"The base learning rate{which} went from {_number(base[0])} to {_number(base[-1])}, "
            f"{_number(np.nanmax(base))} at the highest"
        )
    if np.array_equal(used, base, equal_nan=True):
        yield f"{sentence}, and was used as it was."
    else:
        yield (
            f"{sentence}; what was used went from {_number(used[0])} to {_number(used[-1])}, "
            f"{_number(np.nanmax(used))} at the highest."
        )


def _ratios(record: TraceRecord) -> str:
    last = record.update_ratios[-1]
    largest = max(last.values, key=lambda name: math.inf if math.isnan(last.values[name]) else last.values[name])
    estimate = " (an estimate)" if last.errors.get(largest) else ""
    return (
        f"The update-to-weight ratio of each tensor is on record for {_plural(len(record.update_ratios), 'update')}; "
        f"in update {last.step:,} it was largest in {largest}, {_number(last.values[largest])}{estimate}."
    )


def _story(record: TraceRecord) -> Iterator[str]:
    changing = {_row(decision) for decision in record.decisions if decision.action not in _REFLEXES}
    for episode in _episodes(record):
        headline, reason = _told(episode, changing)
        yield _fill(f"{_when(episode)}: {episode.controller} {headline}", indent=2)
        if reason:
            yield _fill(reason, indent=6)


def _episodes(record: TraceRecord) -> list[_Episode]:
    """Decisions grouped for telling, in the order of their beginnings.

    First, one controller's decisions of the same action, where none is far from the next. If those are too many
    lines, the actions are told together and the distance is doubled until the story is short enough.
    """
    run = record.updates[-1].step - record.updates[0].step if record.updates else 0
    distance = max(_SAME_EPISODE, run // 50)
    episodes = _group(record.decisions, distance, same_action=True)
    while len(episodes) > MAX_EPISODES:
        coarser = _group(record.decisions, distance, same_action=False)
        if len(coarser) >= len(episodes) and distance > record.decisions[-1].step:
            break  # one line per controller already
        episodes, distance = coarser, 2 * distance
    return episodes


def _group(decisions: Iterable[Decision], distance: int, *, same_action: bool) -> list[_Episode]:
    open_episodes: dict[tuple[str, str], _Episode] = {}
    episodes: list[_Episode] = []
    for decision in decisions:
        key = decision.controller, decision.action if same_action else ""
        episode = open_episodes.get(key)
        if episode is None or decision.step - episode.last.step > distance:
            episode = _Episode(decision.controller, [])
            open_episodes[key] = episode
            episodes.append(episode)
        episode.decisions.append(decision)
    return episodes


def _when(episode: _Episode) -> str:
    first, last = episode.first, episode.last
    if all(decision.phase is Phase.START for decision in episode.decisions):
        return "before the first step"
    span = f"{first.step:,}" if first.step == last.step else f"{first.step:,}-{last.step:,}"
    if all(decision.phase is Phase.OBSERVATION for decision in episode.decisions):
        return f"evaluated after {span} updates"
    return f"step {span}" if first.step == last.step else f"steps {span}"


def _told(episode: _Episode, changing: set[tuple[str, int, Phase]]) -> tuple[str, str]:
    """What an episode did, and the reason: its own if there is one decision, else the one that tells most."""
    decisions = episode.decisions
    reflexes = [decision for decision in decisions if decision.action in _REFLEXES]
    strongest = _strongest(reflexes) if reflexes else episode.first
    reason = strongest.text
    if len(decisions) > 1 and reason:
        reason = f"step {strongest.step:,}: {reason}"
    actions = Counter(decision.action for decision in decisions)
    headline = _list([_done(action, count) for action, count in actions.items()])
    if len(decisions) > 1 or not reason:
        compared = _comparison(reflexes or decisions, strongest)
        headline += f" ({compared})" if compared and (reflexes or not reason) else ""
    # A reflex in the same row as a change of level carries that change's factors; it is told with the level.
    levels = [d for d in decisions if not (d.action in _REFLEXES and _row(d) in changing)]
    if len(decisions) > 1 or "factor" not in reason:
        headline = ", ".join((headline, *_levels(levels)))
    return f"{headline}.", reason


def _levels(decisions: Sequence[Decision]) -> Iterator[str]:
    for name, changes in (
        ("factor", [(d.factor_before, d.factor_after) for d in decisions]),
        ("momentum x", [(d.momentum_before, d.momentum_after) for d in decisions]),
    ):
        changes = [(before, after) for before, after in changes if before != after]
        if changes:
            levels = [changes[0][0], changes[-1][1]]
            lowest = min(after for _, after in changes)
            if lowest < min(levels):
                levels.insert(1, lowest)
            yield f"{name} {' -> '.join(map(_number, levels))}"


def _comparison(decisions: Sequence[Decision], strongest: Decision) -> str:
    """The value that was furthest from its threshold, in words."""
    if not strongest.statistic:
        return ""
    name = _WORDS.get(strongest.statistic, strongest.statistic)
    if not math.isfinite(strongest.value):
        return f"{name} {strongest.value}"
    among = "" if len(decisions) == 1 else "up to " if strongest.value >= strongest.threshold else "down to "
    against = f", threshold {_number(strongest.threshold)}" if math.isfinite(strongest.threshold) else ""
    return f"{name} {among}{_number(strongest.value)}{against}"


def _strongest(decisions: Sequence[Decision]) -> Decision:
    """The first decision with a non-finite value, or else with the value furthest from its threshold."""

    def distance(decision: Decision) -> float:
        if not decision.statistic:
            return -1.0
        gap = abs(decision.value - decision.threshold)
        return math.inf if math.isnan(gap) or not math.isfinite(decision.value) else gap

    return max(decisions, key=distance)


def _counts(decisions: Iterable[Decision]) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for decision in decisions:
        counts.setdefault(decision.controller, Counter())[decision.action] += 1
    width = max(len(controller) for controller in counts)
    return [
        f"  {controller:<{width}}  " + ", ".join(f"{count:,} x {action}" for action, count in of_controller.items())
        for controller, of_controller in counts.items()
    ]


def _end(record: TraceRecord) -> Iterator[str]:
    names = record.header.controller_names
    factors = dict.fromkeys(names, 1.0)
    momenta = dict.fromkeys(names, 1.0)
    if record.updates:
        factors.update(zip(names, record.updates[-1].factors, strict=False))
    for decision in record.decisions:
        factors[decision.controller], momenta[decision.controller] = decision.factor_after, decision.momentum_after
    total = min(max(math.prod(factors.values()), record.header.min_factor), record.header.max_factor)
    each = [f"{name} {_number(factor)}" for name, factor in factors.items()]
    would = "would have stood" if record.header.shadow else "stands"
    yield f"At the end the factor {would} at {_number(total)}" + (f" ({_list(each)})." if len(each) > 1 else ".")
    momentum = min(momenta.values(), default=1.0)
    if momentum != 1.0:
        yield f"The momentum {would} at {_number(momentum)} of its base."
    if any(decision.action == "stop" for decision in record.decisions):
        yield "The run was asked to stop."


def _row(decision: Decision) -> tuple[str, int, Phase]:
    return decision.controller, decision.step, decision.phase


def _done(action: str, count: int) -> str:
    once, several = _DONE.get(action, (f'did "{action}"', f'did "{action}" {{}}'))
    if count == 1:
        return once
    if action in _REFLEXES:
        return several.format(f"{count:,}")
    return several.format(_times(count))


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _steps_in_words(steps: Sequence[int], noun: str) -> str:
    return f"{noun}{'' if len(steps) == 1 else 's'} {_list([f'{step:,}' for step in steps])}"


def _list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _fill(text: str, *, indent: int = 0) -> str:
    space = " " * indent
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )
