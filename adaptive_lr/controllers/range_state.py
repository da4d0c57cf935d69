"""`RangeTestState`: where a range test stands, and the names of its stages."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.controllers.base import Adjustment
from adaptive_lr.controllers.probe import Probe
from adaptive_lr.controllers.rehearsal import Rehearsals
from adaptive_lr.controllers.sweep import LossWatch

TRIAL, SWEEP, REHEARSE, RAMP = "trial", "sweep", "rehearse", "ramp"
PROBE, PROOF, DONE = "probe", "proof", "done"


class RangeTestState(NamedTuple):
    """Where the range test stands."""

    stage: str = TRIAL
    level: float = 1.0  # held for the next update, as a multiple of the reference learning rate
    trials: int = 0
    known: int = 0  # trials that told something
    start: float = 1.0  # the level of rung 0
    position: int = 0  # the rung that is held
    watch: LossWatch = LossWatch()
    crossed: float = 0.0  # the level at which the size reached its bar; 0 before
    snapshot: int = 0  # the rung of the latest snapshot
    reference: float = 1.0  # the reference learning rate
    usual: float = 0.0  # the usual level for this optimizer; 0 if there is none
    peak: float = 1.0  # once it is known
    spent: int = 0  # updates so far
    rehearsals: Rehearsals = Rehearsals()
    probe: Probe = Probe()


Outcome = tuple[RangeTestState, Adjustment]
"""What a stage makes of a row: the next state, and what the law asks for."""
