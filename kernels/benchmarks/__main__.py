"""`python -m benchmarks`: run all cases on one device, and write record, table and figure."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

from benchmarks.cases import Row, read_bandwidth, statistics_cases
from benchmarks.control_cases import control_cases, training_cases
from benchmarks.gpt import GPT2, SMALL
from benchmarks.report import write
from benchmarks.tensors import MLP, gpt2_blocks

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run.

    Returns:
        The exit status: 2 where the device is not there.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and turns, to see that everything runs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of record, table and figure")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device here; --device cpu runs without one", file=sys.stderr)
        return 2
    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    turns = 5 if arguments.quick else 15
    largest = 10**9 if device.type == "cuda" else 10**8
    bandwidth = read_bandwidth(device, numel=10**7 if arguments.quick else 2 * largest, turns=turns)
    print(f"{_device_name(device)}: {bandwidth / 1e9:.1f} GB/s read", flush=True)
    rows: list[Row] = []
    for row in _rows(device, quick=arguments.quick, bandwidth=bandwidth, turns=turns):
        rows.append(row)
        print(
            f"{row.case}, {row.parameters:.3g} parameters in {row.tensors}, {row.dtype}, {row.threads} thread(s): "
            f"{row.way} {row.seconds * 1e3:.4g} ms, {row.ratio:.3g} x {row.baseline}",
            flush=True,
        )
    torch.set_num_threads(threads)
    record = {
        "device": _device_name(device),
        "quick": arguments.quick,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "triton": _triton()},
        "host_threads": [1] if device.type == "cuda" else [1, 2],
        "read_bandwidth": bandwidth,
        "turns": turns,
        "seconds": round(time.perf_counter() - start, 1),
        "rows": [row.plain() for row in rows],
    }
    write(record, arguments.output, "cpu" if device.type == "cpu" else _slug(_device_name(device)))
    return 0


def _rows(device: torch.device, *, quick: bool, bandwidth: float, turns: int) -> Iterator[Row]:
    # Control first: on a CPU it is what the bars are about.
    for threads in (1,) if device.type == "cuda" else (1, 2):
        torch.set_num_threads(threads)
        small = "a small perceptron (26k parameters, 6 tensors)"
        yield from control_cases(small, MLP, device, bandwidth=bandwidth, turns=4 * turns)
        if not quick:
            name = "GPT-2's blocks (85M parameters, 172 tensors)"
            yield from control_cases(name, gpt2_blocks(), device, bandwidth=bandwidth, turns=turns)
        yield from training_cases(GPT2 if device.type == "cuda" else SMALL, device, turns=turns)
    torch.set_num_threads(1)
    dtypes = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    sizes = (10**6, 10**7) if quick else (10**6, 10**7, 10**8)
    if device.type == "cuda" and not quick:
        sizes = (*sizes, 10**9)
    for dtype, parameters, tensors in product(dtypes, sizes, (1, 100, 10_000)):
        if tensors == 10_000 and (quick or parameters < 10**7):
            continue
        many = tensors == 10_000 or (parameters >= 10**8 and device.type == "cpu")
        yield from statistics_cases(
            device, dtype, parameters, tensors, bandwidth=bandwidth, turns=max(turns // 3, 3) if many else turns
        )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def _triton() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return str(triton.__version__)


if __name__ == "__main__":
    sys.exit(main())
