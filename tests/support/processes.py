"""Runs scenarios in several gloo processes on the CPU, and hands their results to a test.

A scenario is a function without arguments in a module beside this one, called on every process at once, with the
default group initialised. The processes are forked from one that has imported everything and computed nothing.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

SECONDS = 120
"""What all scenarios of a module may take together."""


def run(module: str, num_processes: int) -> list[dict[str, Any]]:
    """The results of the scenarios of a module, `SCENARIOS[num_processes]`: per process, by name."""
    paths = [str(Path(__file__).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GLOO_SOCKET_IFNAME": "lo"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, module, str(num_processes), folder]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        try:
            printed, _ = started.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)  # and what it forked
            printed = f"not done after {SECONDS} seconds\n{started.communicate()[0]}"
        if started.returncode:
            raise RuntimeError(f"the scenarios of {module} failed:\n{printed}")
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(num_processes)]


def _main(module: str, num_processes: int, folder: str) -> None:
    scenarios = importlib.import_module(module).SCENARIOS[num_processes]
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=_work, args=(scenarios, rank, num_processes, folder)) for rank in range(num_processes)
    ]
    for child in children:
        child.start()
    running = {child.sentinel: child for child in children}
    failed = False
    while running and not failed:
        for sentinel in wait(list(running)):
            child = running.pop(sentinel)  # type: ignore[call-overload]
            child.join()
            if child.exitcode:
                failed = True
                print(f"{child.name} ended with exit code {child.exitcode}", flush=True)
    for child in running.values():
        child.terminate()
    sys.exit(failed)


def _work(scenarios: dict[str, Any], rank: int, num_processes: int, folder: str) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/meeting",
            rank=rank,
            world_size=num_processes,
            timeout=timedelta(seconds=SECONDS / 2),
        )
        results = {}
        for name, scenario in scenarios.items():
            torch.manual_seed(0)
            results[name] = scenario()
        Path(folder, str(rank)).write_bytes(pickle.dumps(results))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        print(f"rank {rank}:\n{traceback.format_exc()}", flush=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
