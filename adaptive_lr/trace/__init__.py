"""Traces: writing what a run measured and decided, reading it back, deciding again, telling the story."""

from adaptive_lr.trace.explain import explain as explain
from adaptive_lr.trace.reader import TraceRecord as TraceRecord
from adaptive_lr.trace.reader import read_trace as read_trace
from adaptive_lr.trace.reader import replay as replay
from adaptive_lr.trace.records import Header as Header
from adaptive_lr.trace.records import Update as Update
from adaptive_lr.trace.records import UpdateRatios as UpdateRatios
from adaptive_lr.trace.records import describe_controllers as describe_controllers
from adaptive_lr.trace.writer import Trace as Trace
from adaptive_lr.trace.writer import open_trace as open_trace
