"""A trace in words: what was changed in a run, when, and why."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adaptive_lr.controllers.composition import Decision
from adaptive_lr.statistics import Phase
from adaptive_lr.trace.reader import TraceRecord
from adaptive_lr.trace.setting import rates, reference_lr, setting
from adaptive_lr.trace.wording import REFLEXES, done, fill, listed, number

MAX_EPISODES = 30
"""Lines the story may have. Where there would be more, decisions further apart are told together."""

_PEAK = re.compile(
    r"the peak (?P<verb>is|stays|of) (?P<level>\d[\d.]*(?:e[+-]?\d+)?)(?: x the reference)?"
    r"(?:, not (?P<other>\d[\d.]*(?:e[+-]?\d+)?))?"
)
"""How a `RangeTest` names the peak in its reasons: as a multiple of the reference."""

_SAME_EPISODE = 50  # steps between decisions told together, before any limit on lines; or 2 % of the run if more

_WORDS = {
    "grad_norm": "gradient norm",
    "grad_score": "gradient score",
    "grad_max": "largest gradient",
    "nonfinite": "number of non-finite gradients",
    "param_norm": "parameter norm",
    "momentum_norm": "momentum norm",
    "alignment": "gradient-momentum alignment",
    "update_ratio": "update-to-weight ratio",
    "compound_ratio": "compound update-to-weight ratio",
    "update_size": "size of the update",
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


def explain(record: TraceRecord, *, every: bool = False) -> str:
    """Tell in words what the controllers changed in a run, when, and why.

    Similar decisions are told together: as one line for a run of the same action by the same controller, and for a
    run with very many changes as one line for all that a controller did in a stretch of steps.

    Args:
        record: a run (see `read_trace`).
        every: tell every decision with its own reason, however many there are.

    Returns:
        Several paragraphs of text, `WIDTH` columns wide.
    """
    paragraphs = [fill(" ".join(setting(record))), fill(" ".join(rates(record)))]
    if record.decisions:
        conditional = " (none of it was done: this was a shadow run)" if record.header.shadow else ""
        paragraphs.append(f"What was changed, and why{conditional}:")
        paragraphs.append("\n".join(_story(record, every=every)))
        paragraphs.append("In all:\n" + "\n".join(_counts(record.decisions)))
        paragraphs.append(fill(" ".join(_end(record))))
    elif record.header.controllers:
        paragraphs.append("Nothing was changed: no controller saw a reason to.")
    else:
        paragraphs.append("Nothing was changed: there was no controller.")
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _story(record: TraceRecord, *, every: bool) -> Iterator[str]:
    changing = {_row(decision) for decision in record.decisions if decision.action not in REFLEXES}
    told = [_Episode(d.controller, [d]) for d in record.decisions] if every else _episodes(record)
    reference = reference_lr(record)
    for episode in told:
        headline, reason = _told(episode, changing)
        yield fill(f"{_when(episode)}: {episode.controller} {headline}", indent=2)
        if reason:
            yield fill(_with_rates(reason, reference), indent=6)
    if len(told) < len(record.decisions):
        yield fill(f"({len(told)} of {len(record.decisions):,} reasons are told; explain --all tells all.)", indent=2)


def _with_rates(reason: str, reference: float | None) -> str:
    """A reason with the peak as the learning rate that it is."""
    if reference is None:
        return reason

    def told(found: re.Match[str]) -> str:
        rate = f"{number(float(found['level']) * reference)} ({found['level']} x the reference of {number(reference)})"
        other = "" if found["other"] is None else f", not {number(float(found['other']) * reference)}"
        return f"the peak {found['verb']} {rate}{other}"

    return _PEAK.sub(told, reason)


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
    reflexes = [decision for decision in decisions if decision.action in REFLEXES]
    strongest = _strongest(reflexes) if reflexes else episode.first
    reason = strongest.text
    if len(decisions) > 1 and reason:
        reason = f"step {strongest.step:,}: {reason}"
    actions = Counter(decision.action for decision in decisions)
    headline = listed([done(action, count) for action, count in actions.items()])
    if len(decisions) > 1 or not reason:
        compared = _comparison(reflexes or decisions, strongest)
        headline += f" ({compared})" if compared and (reflexes or not reason) else ""
    # A reflex in the same row as a change of level carries that change's factors; it is told with the level.
    levels = [d for d in decisions if not (d.action in REFLEXES and _row(d) in changing)]
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
            yield f"{name} {' -> '.join(map(number, levels))}"


def _comparison(decisions: Sequence[Decision], strongest: Decision) -> str:
    """The value that was furthest from its threshold, in words.

    Decisions on several statistics, or on values that are not finite, cannot be compared: then all values are told.
    """
    if not strongest.statistic:
        return ""
    by_statistic: dict[str, list[float]] = {}
    for decision in decisions:
        if decision.statistic:
            by_statistic.setdefault(decision.statistic, []).append(decision.value)
    if len(by_statistic) > 1 or not all(map(math.isfinite, by_statistic[strongest.statistic])):
        told = [
            (f"{len(values):,} x " if len(by_statistic) > 1 else "")
            + f"{_WORDS.get(statistic, statistic)} {_all_values(values)}"
            for statistic, values in by_statistic.items()
        ]
        return ", ".join(told)
    name = _WORDS.get(strongest.statistic, strongest.statistic)
    among = "" if len(decisions) == 1 else "up to " if strongest.value >= strongest.threshold else "down to "
    against = f", threshold {number(strongest.threshold)}" if math.isfinite(strongest.threshold) else ""
    return f"{name} {among}{number(strongest.value)}{against}"


def _all_values(values: Sequence[float]) -> str:
    """The span of the finite values, and how many others there are: "265 to 819 and one nan"."""
    finite = sorted(value for value in values if math.isfinite(value))
    others = Counter(str(value) for value in values if not math.isfinite(value))
    if not finite and len(others) == 1:
        return next(iter(others))
    span = [] if not finite else [" to ".join(dict.fromkeys((number(finite[0]), number(finite[-1]))))]
    return listed(span + [f"{'one' if count == 1 else f'{count:,}'} {value}" for value, count in others.items()])


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
    each = [f"{name} {number(factor)}" for name, factor in factors.items()]
    would = "would have stood" if record.header.shadow else "stands"
    yield (
        f"At the end the factor {would} at {number(total)}"
        + (f" ({listed(each)})." if len(each) > 1 else ".")
        + _last_rates(record)
    )
    momentum = min(momenta.values(), default=1.0)
    if momentum != 1.0:
        yield f"The momentum {would} at {number(momentum)} of its base."
    if any(decision.action == "stop" for decision in record.decisions):
        yield "The run was asked to stop."


def _last_rates(record: TraceRecord) -> str:
    """What the last update used."""
    rates = [] if not record.updates else [rate for rate in record.updates[-1].lr if not math.isnan(rate)]
    if not rates:
        return ""
    low, high = number(min(rates)), number(max(rates))
    return f" The last update used a learning rate of {low if low == high else f'{low} to {high}'}."


def _row(decision: Decision) -> tuple[str, int, Phase]:
    return decision.controller, decision.step, decision.phase
