"""The workloads for a GPU: of the documented size, and at a tiny size they train on a CPU like any other."""

from __future__ import annotations

import math
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptive_lr.study.workload import Workload
from experiments import workloads
from experiments.workloads.on_gpu.gpt import GPT, LargeByteGPT
from experiments.workloads.on_gpu.resnet import PADDING, ResNet18, augmented, resnet18


@pytest.fixture(scope="module")
def gpt() -> LargeByteGPT:
    workload = LargeByteGPT(width=16, num_layers=2, num_heads=2, context=16)
    workload.batch_size = 4
    return workload


@pytest.fixture
def resnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResNet18:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        images = generator.integers(0, 256, (8, 3072), dtype=np.uint8)
        content = {"data": images, "labels": generator.integers(0, 10, 8).tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
    monkeypatch.setenv("ADAPTIVE_LR_DATA", str(tmp_path))
    monkeypatch.setattr(ResNet18, "batch_size", 4)
    monkeypatch.setattr(ResNet18, "widths", (4, 4, 8, 8))
    return ResNet18()


def train(workload: Workload, steps: int, lr: float) -> tuple[float, float]:
    """Validation loss before and after so many steps of AdamW."""
    torch.manual_seed(0)
    model = workload.build_model(0)

    def judge() -> float:
        model.eval()
        with torch.no_grad():
            loss = workload.evaluate(model, "validation").loss
        model.train()
        return loss

    before = judge()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for batch in islice(workload.batches(0), steps):
        optimizer.zero_grad()
        workload.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return before, judge()


@pytest.mark.parametrize(
    ("make", "kind", "number"),
    [
        (lambda: GPT(width=320, num_layers=8, num_heads=5, context=256), LargeByteGPT, 10_110_080),
        (resnet18, ResNet18, 11_173_962),
    ],
)
def test_the_number_of_parameters_is_the_documented_one(make: object, kind: type, number: int) -> None:
    """That of ResNet-18 for ten classes and small images is the usual one."""
    assert callable(make)
    assert sum(p.numel() for p in make().parameters()) == number
    assert f"{number:,} parameters" in " ".join((kind.__doc__ or "").split())


def test_they_are_listed_apart_and_the_readme_describes_them() -> None:
    others = {**workloads.TUNING, **workloads.SET_ASIDE, **workloads.SPIKES, **workloads.ON_DISK}
    assert not workloads.ON_GPU.keys() & others.keys()
    readme = (Path(workloads.__file__).parents[1] / "README.md").read_text()
    assert all(f"| {name} |" in readme for name in workloads.ON_GPU)


def test_the_gpt_starts_at_ln_256_and_learns(gpt: LargeByteGPT) -> None:
    before, after = train(gpt, 20, lr=3e-3)
    assert before == pytest.approx(math.log(256), rel=0.02)
    assert after < before - 0.3


def test_the_gpt_does_not_see_the_future(gpt: LargeByteGPT) -> None:
    model = gpt.build_model(0)
    text = next(gpt.batches(0))[0]
    changed = text.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 256
    scores, others = model(text), model(changed)
    torch.testing.assert_close(scores[:, :10], others[:, :10])
    assert not torch.allclose(scores[:, 10:], others[:, 10:])


def test_its_windows_come_with_the_bytes_that_follow(gpt: LargeByteGPT) -> None:
    text, following = next(gpt.batches(0))
    assert torch.equal(text[:, 1:], following[:, :-1])


@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_equal_seeds_give_equal_batches_and_others_others(name: str, request: pytest.FixtureRequest) -> None:
    workload = request.getfixturevalue(name)
    first, again, other = ([b[0] for b in islice(workload.batches(seed), 2)] for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_the_resnet_learns_its_few_images(resnet: ResNet18) -> None:
    """Training loss: noise with random classes cannot be generalised from."""
    resnet.splits["validation"] = resnet.train
    before, after = train(resnet, 60, lr=3e-3)
    assert after < before


def test_the_resnet_keeps_the_sizes_of_the_paper() -> None:
    """Stages of 32, 16, 8 and 4 pixels."""
    model = resnet18((2, 3, 4, 5))
    assert isinstance(model, torch.nn.Sequential)
    images = torch.zeros(1, 3, 32, 32)
    sizes: list[tuple[int, int]] = []
    for layer in list(model)[3:11]:
        images = layer(images if sizes else model[:3](images))
        sizes.append((images.shape[1], images.shape[2]))
    assert sizes == [(2, 32)] * 2 + [(3, 16)] * 2 + [(4, 8)] * 2 + [(5, 4)] * 2


def test_an_augmented_image_is_a_crop_of_the_padded_one_or_its_mirror_image() -> None:
    """By trying all 81 places and both directions."""
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = augmented(images, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    mirrored = 0
    for image, whole in zip(found, padded, strict=True):
        crops = [whole[:, y : y + 8, x : x + 8] for y in range(2 * PADDING + 1) for x in range(2 * PADDING + 1)]
        plain = any(torch.equal(image, crop) for crop in crops)
        flipped = any(torch.equal(image, crop.flip(2)) for crop in crops)
        assert plain or flipped
        mirrored += flipped
    assert 2 <= mirrored <= 14
