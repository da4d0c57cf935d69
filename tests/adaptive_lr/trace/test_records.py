"""Every record survives being written and read, to the last bit."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers import Composition, Decision
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import records
from adaptive_lr.trace.records import Header, Resume, Update, UpdateRatios, decode, describe_controllers
from laws import Script

FLOATS = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
VALUES = st.dictionaries(st.text(max_size=12), FLOATS, max_size=6)
STEPS = st.integers(0, 2**62)


def bits(value: Any) -> Any:
    """A value with every float as its bits (one NaN for all), so that == means identical."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [bits(item) for item in value]
    if hasattr(value, "__slots__"):
        return [bits(getattr(value, name)) for name in value.__slots__]
    return value


@settings(deadline=None, max_examples=150)
@given(
    st.builds(
        Statistics,
        step=STEPS,
        phase=st.sampled_from(Phase),
        values=VALUES,
        groups=st.lists(VALUES, max_size=3).map(tuple),
        updated=st.booleans(),
    )
)
def test_a_row_reads_back_bit_for_bit(row: Statistics) -> None:
    found = decode(records.encode_row(row))
    assert isinstance(found, Statistics)
    assert bits(found) == bits(row)
    assert list(found.values) == list(row.values)


@settings(deadline=None, max_examples=80)
@given(st.data(), st.integers(0, 3), st.integers(0, 3))
def test_an_update_reads_back_bit_for_bit(data: st.DataObject, groups: int, controllers: int) -> None:
    floats = st.tuples(*[FLOATS] * groups)
    optional = st.tuples(*[st.none() | FLOATS] * groups)
    update = data.draw(
        st.builds(
            Update,
            step=STEPS,
            lr=floats,
            base_lr=floats,
            momentum=optional,
            base_momentum=optional,
            factor=FLOATS,
            factors=st.tuples(*[FLOATS] * controllers),
            damp=FLOATS,
            skipped=st.booleans(),
            stalls=st.none() | STEPS,
        )
    )
    assert bits(decode(records.encode_update(update))) == bits(update)


@settings(deadline=None, max_examples=50)
@given(st.builds(UpdateRatios, step=STEPS, values=VALUES, errors=VALUES))
def test_the_ratios_of_an_update_read_back_bit_for_bit(ratios: UpdateRatios) -> None:
    assert bits(decode(records.encode_update_ratios(ratios))) == bits(ratios)


def test_a_trace_of_the_first_format_is_read() -> None:
    """Its updates say nothing of stalls."""
    header = decode(records.encode_header(Header("SGD", ("0",))).replace('"format":2', '"format":1'))
    assert isinstance(header, Header)
    update = Update(3, (0.1,), (0.1,), (None,), (None,), 1.0, ())
    line = records.encode_update(update)
    assert "stalls" not in line
    assert decode(line) == update


@settings(deadline=None, max_examples=80)
@given(
    st.builds(
        Decision,
        step=STEPS,
        phase=st.sampled_from(Phase),
        controller=st.text(),
        action=st.text(),
        statistic=st.text(),
        value=FLOATS,
        threshold=FLOATS,
        text=st.text(),
        factor_before=FLOATS,
        factor_after=FLOATS,
        momentum_before=FLOATS,
        momentum_after=FLOATS,
    )
)
def test_a_decision_reads_back_bit_for_bit_on_one_line(decision: Decision) -> None:
    line = records.encode_decision(decision)
    assert len(line.splitlines()) == 1
    assert bits(decode(line)) == bits(decision)


def test_values_that_json_cannot_name_are_written_as_python_does() -> None:
    line = records.encode_row(Statistics(0, values={"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0}))
    assert '"a":NaN,"b":Infinity,"c":-Infinity,"d":-0.0' in line
    assert list(json.loads(line)["values"]) == ["a", "b", "c", "d"]


def test_numpy_and_torch_scalars_are_written_as_their_float64_value() -> None:
    values: dict[str, Any] = {"a": np.float32(0.1), "b": torch.tensor(0.1), "c": np.float64(0.1), "d": np.int64(3)}
    found = decode(records.encode_row(Statistics(0, values=values)))
    assert isinstance(found, Statistics)
    assert found.values == {"a": float(np.float32(0.1)), "b": float(np.float32(0.1)), "c": 0.1, "d": 3.0}


def test_a_header_and_a_resumption_read_back() -> None:
    composition = Composition((Script((0.5, 0.25)), Script()), min_factor=1e-3)
    header = Header("AdamW", ("a", "b"), describe_controllers(composition), 1e-3, math.inf, lag=2, shadow=True)
    found = decode(records.encode_header(header))
    assert isinstance(found, Header)
    assert found.controller_names == ("script", "script_2")
    assert found.controllers[0]["class"] == "laws:Script"
    assert found.controllers[0]["configuration"] == {"factors": [0.5, 0.25], "momenta": [1.0]}
    assert (found.optimizer, found.groups, found.lag, found.shadow) == ("AdamW", ("a", "b"), 2, True)
    assert (found.min_factor, found.max_factor) == (1e-3, math.inf)
    assert found.versions["torch"].startswith(torch.__version__.split("+")[0])
    assert decode(records.encode_resume(Resume(7, 22))) == Resume(7, 22)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "expected a JSON object, got list"),
        ("{}", "of kind None is of no known kind"),
        ('{"kind":"rows"}', "of kind 'rows' is of no known kind"),
        ('{"kind":"row","step":1,"values":{}}', "of kind 'row' lacks 'phase'"),
        ('{"kind":"row","step":1,"phase":"during","values":{}}', "'during' is not a valid Phase"),
        ('{"kind":"update","step":1}', "of kind 'update' does not fit"),
        ('{"kind":"header","format":99}', "is of format 99, newer than this package reads"),
        ('{"kind":"row","st', "Unterminated string"),
    ],
)
def test_a_line_that_is_no_record_is_refused_with_the_reason(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(line)
