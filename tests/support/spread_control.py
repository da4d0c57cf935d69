"""Control over several processes: training runs, and what happens when processes meet; scenarios of `processes`."""

from __future__ import annotations

from spread_meetings import MEETINGS
from spread_ratios import RATIOS
from spread_training import TRAINING

SCENARIOS = {world: {**MEETINGS[world], **TRAINING[world], **RATIOS[world]} for world in TRAINING}
