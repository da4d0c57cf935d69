"""Every combination of dtypes, unaligned; a file of its own, so that two processes share the work."""

from __future__ import annotations

from dtype_combinations import COMBINATIONS, errors


def test_every_combination_of_dtypes_is_measured_right() -> None:
    """124 of them, within 2e-6 of float64."""
    assert len(COMBINATIONS) == 124
    found = dict(errors(aligned=False))
    assert len(found) > 5 * 100
    assert {name: error for name, error in found.items() if not error <= 2e-6} == {}
