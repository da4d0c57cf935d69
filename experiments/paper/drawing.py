"""How figures are handed to the paper."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def styled(changes: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    """The style of all figures, with what is different in one of them."""
    context: AbstractContextManager[None] = require("matplotlib").rc_context({**STYLE, **(changes or {})})
    return context


def pdf(figure: Figure) -> bytes:
    """A figure as PDF without a date in it: the same numbers make the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Producer": None})
    return buffer.getvalue()
