"""The command line as a process that heeds Ctrl-C.

A shell lets its background jobs ignore SIGINT, and so do all that they start: tests of interruption would then pass
in a terminal alone.
"""

from __future__ import annotations

import sys

_MAIN = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "adaptive-lr"
runpy.run_module("adaptive_lr.cli", run_name="__main__")
"""


def interruptible(*arguments: str) -> list[str]:
    """The command `adaptive-lr` with these arguments, whatever this process does with SIGINT."""
    return [sys.executable, "-c", _MAIN, *arguments]
