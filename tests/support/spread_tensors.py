"""Statistics of tensors spread in every way over processes, and of the same tensors whole; scenarios of `processes`."""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from adaptive_lr_kernels import measure

SHAPES = ((7, 3), (1,), (5,), (2, 3, 4), (16, 2), (3, 0), (), (9,))
"""Most do not divide by the number of processes, some are smaller than it, one is empty."""

Measured = dict[str, dict[str, list[float]]]


def listed(measurement: Any, *levels: str) -> Measured:
    """A measurement as numbers."""
    found = {level: getattr(measurement, level) for level in levels}
    return {
        level: {name: values[name].double().reshape(-1).tolist() for name in values} for level, values in found.items()
    }


def meshes() -> list[DeviceMesh]:
    """All processes in a row; in two dimensions; and each of these by itself."""
    world = dist.get_world_size()
    row = init_device_mesh("cpu", (world,))
    if world % 2 or world == 2:
        return [row]
    square = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("a", "b"))
    return [row, square, square["a"], square["b"]]


def spread(whole: Tensor, mesh: DeviceMesh | None, placements: list[Any]) -> Tensor:
    return whole if mesh is None else distribute_tensor(whole, mesh, placements, src_data_rank=None)


def case(choose: random.Random, generator: torch.Generator, meshes: list[DeviceMesh]) -> dict[str, list[Any]]:
    """Random tensors, whole and spread."""
    made: dict[str, list[Any]] = {"whole": [], "spread": []}
    dtypes = choose.choice([(torch.float64,), (torch.float64, torch.float32, torch.bfloat16)])
    for _ in range(choose.randint(1, 8)):
        shape, dtype = choose.choice(SHAPES), choose.choice(dtypes)
        mesh = choose.choice([None, *meshes])
        rooms = [Replicate(), *(Shard(dim) for dim in range(len(shape)))]
        placements = [choose.choice(rooms) for _ in range(mesh.ndim if mesh is not None else 0)]
        scale = choose.choice([1.0, 1e-3, 100.0])
        wholes = [
            scale * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) + scale for _ in range(3)
        ]
        if choose.random() < 0.15:
            wholes[0] = None
        if choose.random() < 0.15:
            wholes[2] = None
        made["whole"].append(wholes)
        made["spread"].append([None if t is None else spread(t, mesh, placements) for t in wholes])
    made["exact"] = [len(dtypes) == 1]
    return made


def arguments(tensors: list[list[Any]], groups: list[int]) -> dict[str, Any]:
    gradients, parameters, momenta = zip(*tensors, strict=True)
    return {"gradients": gradients, "parameters": parameters, "momenta": momenta, "groups": groups}


def random_cases() -> list[dict[str, Any]]:
    """The same on every process, from the same seeds."""
    choose, generator, available = random.Random(0), torch.Generator().manual_seed(0), meshes()
    found = []
    for _ in range(25):
        made = case(choose, generator, available)
        groups = [choose.randint(0, 2) for _ in made["whole"]]
        truth = measure(**arguments(made["whole"], groups))
        given = arguments(made["spread"], groups)
        grouped = measure(**given, process_group=dist.group.WORLD)
        each = measure(**given, process_group=dist.group.WORLD, per_tensor=True)
        levels = ("overall", "per_group")
        found.append(
            {
                "exact": made["exact"][0],
                "truth": listed(truth, *levels, "per_tensor"),
                "grouped": listed(grouped, *levels),
                "each": listed(each, *levels, "per_tensor"),
            }
        )
    return found


def nonfinite() -> dict[str, Measured]:
    """One value that is not finite, on the last process alone: in a replica, in a shard."""
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    found = {}
    for value in (torch.nan, torch.inf, -torch.inf):
        for kind in ("plain", "replicated", "sharded", "everywhere"):
            gradient = torch.ones(world, 2)
            if rank == world - 1 or kind == "everywhere":
                gradient[-1, 0] = value
            if kind in ("replicated", "sharded"):
                placement = Replicate() if kind == "replicated" else Shard(0)
                gradient = distribute_tensor(gradient, mesh, [placement], src_data_rank=None)
            found[f"{kind} {value}"] = listed(
                measure([torch.ones(3), gradient], momenta=[torch.ones(3), gradient], process_group=dist.group.WORLD),
                "overall",
            )
    return found


def replicas_that_differ() -> Measured:
    """Each process has another ordinary gradient: the first one's counts, the largest magnitude is anyone's."""
    return listed(measure([torch.full((4,), 1.0 + dist.get_rank())], process_group=dist.group.WORLD), "overall")


def a_group_of_two() -> Measured:
    """Two groups of two processes each measure their own."""
    rank, world = dist.get_rank(), dist.get_world_size()
    groups = [dist.new_group([start, start + 1]) for start in range(0, world, 2)]
    mesh = DeviceMesh.from_group(groups[rank // 2], "cpu")
    gradient = DTensor.from_local(torch.full((2,), 1.0 + rank), mesh, [Shard(0)], run_check=False)
    return listed(measure([gradient], process_group=groups[rank // 2]), "overall")


def views() -> Measured:
    """Shards that are not contiguous, half precision, and a sum that has not arrived yet."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    whole = torch.arange(2.0 * world * 3).reshape(2 * world, 3).bfloat16()
    columns = distribute_tensor(whole.t().contiguous(), mesh, [Shard(1)], src_data_rank=None).t()
    partial = DTensor.from_local(torch.ones(3) / world, mesh, [Replicate()], run_check=False)
    return listed(measure([columns, partial * world], process_group=dist.group.WORLD), "overall")


SCENARIOS: dict[int, dict[str, Any]] = {
    world: {
        "random": random_cases,
        "nonfinite": nonfinite,
        "replicas that differ": replicas_that_differ,
        "views": views,
        "group of two": a_group_of_two,
    }
    for world in (2, 4)
}
