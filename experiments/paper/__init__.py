"""From recorded results to what the paper quotes: one file per study, each a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    r"""What one study gives the paper.

    Attributes:
        numbers: name -> LaTeX text, quoted in the paper as ``\result{name}``.
        tables: file name without its suffix -> LaTeX `tabular`.
        figures: file name with its suffix -> contents.
    """

    numbers: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
