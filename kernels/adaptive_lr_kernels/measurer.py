"""`Measurer`: the Triton backend, and all that it keeps from step to step."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from adaptive_lr_kernels import inputs
from adaptive_lr_kernels.measurement import Measurement, beside
from adaptive_lr_kernels.merge import Segments
from adaptive_lr_kernels.part_kernel import VALUES
from adaptive_lr_kernels.plan import Plan, Results
from adaptive_lr_kernels.plans import Plans, check_device, is_capturing, on_device
from adaptive_lr_kernels.streams import Streams
from adaptive_lr_kernels.tables import Reads, Tables
from adaptive_lr_kernels.workspace import Workspace, stream_of


class Columns(Mapping[str, Tensor]):
    """The results at one level, as views of the tables that the kernels write."""

    __slots__ = ("_columns", "_names", "_results")

    def __init__(self, names: tuple[str, ...], results: Results, columns: slice | int) -> None:
        self._names = names
        self._results = results
        self._columns = columns

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(f"{name!r} was not measured; measured: {', '.join(self._names) or 'nothing'}")
        row = self._results.nonfinite if name == "nonfinite" else self._results.values[VALUES.index(name)]
        return row[self._columns]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)})"


class Engine:
    """Measures checked tensors of one device with Triton.

    Args:
        names: the statistics, in the order of `inputs.STATISTICS`.
        groups: the tensors of each group.
        device: where the tensors are.
        keep: sets of results to write in turn; 0 for new ones at every call.

    Raises:
        ValueError: if Triton cannot run on `device`.
    """

    def __init__(self, names: tuple[str, ...], groups: Segments, device: torch.device, keep: int) -> None:
        check_device(device)
        self.names = names
        self.groups = groups
        self.device = device
        self._reads = Reads.of(names)
        self._plans = Plans(lambda tables: Plan(tables, self._reads, keep), self._reads, device)

    def measure(
        self,
        gradients: Sequence[Tensor | None],
        parameters: Sequence[Tensor | None],
        momenta: Sequence[Tensor | None],
    ) -> Measurement:
        """Measure; parameters and momenta may be empty where no statistic reads them."""
        with torch.no_grad(), on_device(self.device):
            streams = Streams.of(gradients, parameters, momenta, self._reads)
            with self._plans.sent(streams, self.groups) as (plan, addresses):
                results = plan.launch(addresses)
        num_tensors, last = len(gradients), results.nonfinite.shape[0] - 1
        return Measurement(
            overall=Columns(self.names, results, last),
            per_group=Columns(self.names, results, slice(num_tensors, last)),
            per_tensor=Columns(self.names, results, slice(num_tensors)),
        )

    def where(self) -> tuple[Tables, Tensor] | None:
        """Tables of the latest measurement and the addresses on the device, if all gradients were read in place."""
        latest = self._plans.latest
        if latest is None or not latest.in_place or not self._reads.gradient:
            return None
        return latest.plan.tables, latest.addresses.table


@functools.lru_cache(maxsize=8)
def engine_of(names: tuple[str, ...], groups: Segments, device: torch.device, stream: int) -> Engine:
    """The engine behind `measure`; its results are never written again.

    Args:
        names: the statistics.
        groups: the tensors of each group.
        device: where the tensors are.
        stream: what tells the streams of the device apart: buffers are reused in the order of one.
    """
    return Engine(names, groups, device, keep=0)


def measure_fused(
    names: tuple[str, ...],
    groups: Segments,
    device: torch.device,
    gradients: Sequence[Tensor | None],
    parameters: Sequence[Tensor | None],
    momenta: Sequence[Tensor | None],
    workspace: Workspace | None,
) -> Measurement:
    """Measure checked tensors with Triton: what `measure` calls.

    Raises:
        RuntimeError: while a CUDA graph is captured, which needs a `Measurer` of its own.
    """
    if is_capturing(device):
        raise RuntimeError("measure keeps no memory for a CUDA graph: use a Measurer made for the graph")
    if workspace is None:
        engine = engine_of(names, groups, device, stream_of(device))
        return engine.measure(gradients, parameters, momenta)
    engine = workspace.engine(names, groups, device)
    measurement = engine.measure(gradients, parameters, momenta)
    workspace.remember(gradients, engine.where())
    return measurement


class Measurer:
    """`measure` with Triton for the same tensors step after step, in memory of its own.

    In the steady state (shapes, dtypes and alignment as before) a call allocates nothing, waits for nothing, and sends
    the addresses of the tensors to the device only where they changed. The calls must all be on one stream.

    A result stays as it is until `keep` more calls have been made; then its memory is written again.

    In a CUDA graph: make a Measurer for the graph alone; call it once or more, so that kernels are compiled and
    memory is there; then capture one call. The memory that it wrote then (its `Measurement`) is written at every
    replay, from the tensors that were captured. The Measurer then belongs to the graph, must live as long, and
    refuses further calls.

    Args:
        statistics: the names to measure; None measures all that the inputs allow.
        groups: the group index of each tensor; None puts all in one group.
        keep: results that stay valid at a time, 1 or more.

    Raises:
        ValueError: an unknown name, or `keep` below 1.
    """

    def __init__(
        self, statistics: Iterable[str] | None = None, groups: Iterable[int] | None = None, *, keep: int = 2
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be 1 or more; got {keep}")
        self._statistics = inputs.names_of(statistics)
        inputs.requested(self._statistics, parameters=True, momenta=True)
        self._groups = None if groups is None else tuple(groups)
        self._keep = keep
        self._engine: Engine | None = None

    def measure(
        self,
        gradients: Iterable[Tensor | None],
        parameters: Iterable[Tensor] | None = None,
        momenta: Iterable[Tensor | None] | None = None,
    ) -> Measurement:
        """Measure; arguments, results and errors are those of `measure`.

        Raises:
            RuntimeError: in a CUDA graph capture without a call before it, or in any call after one.
        """
        names = inputs.requested(self._statistics, parameters=parameters is not None, momenta=momenta is not None)
        listed = inputs.tensors_of("gradients", gradients)
        groups = inputs.groups_of(self._groups, len(listed))
        device = next((g.device for g in listed if isinstance(g, Tensor)), torch.device("cpu"))
        inputs.check_tensors("gradients", listed, device)
        beside_parameters = beside("parameters", parameters, listed, listed, device)
        beside_momenta = beside("momenta", momenta, listed, listed, device)
        engine = self._engine
        if engine is None or (engine.names, engine.groups, engine.device) != (names, groups, device):
            self._engine = engine = Engine(names, groups, device, self._keep)
        return engine.measure(listed, beside_parameters, beside_momenta)
