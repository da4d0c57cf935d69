"""A workload of milliseconds, and workloads that are broken in one way each."""

from __future__ import annotations

import itertools
import os

import torch
from torch import nn
from torch.nn import functional as F

from adaptive_lr.study import Evaluation


class Tiny:
    """Two noisy classes in eight dimensions, and a perceptron."""

    name = "tiny"
    total_steps = 12
    evaluation_interval = 4

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(96, 8, generator=generator)
        classes = (features[:, 0] + 0.3 * torch.randn(96, generator=generator) > 0).long()
        self.features, self.classes = features, classes
        self.rows = {"train": slice(0, 48), "validation": slice(48, 72), "test": slice(72, 96)}

    def build_model(self, seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))

    def batches(self, seed: int):
        generator = torch.Generator().manual_seed(seed)
        while True:
            index = torch.randint(48, (16,), generator=generator)
            yield self.features[index], self.classes[index]

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model, split):
        rows = self.rows[split]
        scores = model(self.features[rows])
        accuracy = (scores.argmax(1) == self.classes[rows]).double().mean().item()
        return Evaluation(F.cross_entropy(scores, self.classes[rows]).item(), accuracy)


class Grouped(Tiny):
    """The first layer's learning rate is zero; judged by whether that layer is as it was."""

    title = "tiny, first layer at rest"

    def build_model(self, seed):
        model = super().build_model(seed)
        self.first = model[0].weight.detach().clone()
        return model

    def parameter_groups(self, model, lr):
        return [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[3].parameters(), "lr": lr}]

    def evaluate(self, model, split):
        return super().evaluate(model, split)._replace(accuracy=float(torch.equal(model[0].weight, self.first)))


class Normalised(Tiny):
    def build_model(self, seed):
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


class Slow(Tiny):
    """Slow enough for a test to interrupt."""

    def loss(self, model, batch):
        import time

        time.sleep(0.01)
        return super().loss(model, batch)


class NoAccuracy(Tiny):
    """A task that is judged by its loss alone."""

    def evaluate(self, model, split):
        return Evaluation(super().evaluate(model, split).loss)


class Explodes(Tiny):
    """Every loss but the evaluations is NaN."""

    def loss(self, model, batch):
        return super().loss(model, batch) * float("nan")

    total_steps = 40


class NanAtStart(Tiny):
    def evaluate(self, model, split):
        return Evaluation(float("nan"), 0.5)


class NanBatches(Tiny):
    """Every batch but the first is NaN."""

    def batches(self, seed):
        for number, (features, classes) in enumerate(super().batches(seed)):
            yield features * (float("nan") if number else 1.0), classes


class NoBatches(Tiny):
    def batches(self, seed):
        return iter(())


class BareLoss(Tiny):
    """Judges by a number, where an evaluation belongs."""

    def evaluate(self, model, split):
        return 0.5


class AccuracyInPercent(Tiny):
    def evaluate(self, model, split):
        return Evaluation(0.7, 52.0)


class LossOfEach(Tiny):
    """A loss for each example, where one for the batch belongs."""

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


class RaisesLate(Tiny):
    """With a message of two lines, as torch's own often are."""

    def batches(self, seed):
        yield from itertools.islice(super().batches(seed), 3)
        raise RuntimeError("out of memory\n  and how much there was")


class RaisesAtStart(Tiny):
    def build_model(self, seed):
        raise RuntimeError("no such layer\nsecond line")


class RaisesInTraining(Tiny):
    """Raises in the third batch, for half of the seeds; not at all once the file `mended` is there."""

    def batches(self, seed):
        for number, batch in enumerate(super().batches(seed)):
            if number == 2 and seed % 2 and not os.path.exists(os.environ.get("TINY_MENDED", "")):
                raise RuntimeError("the data is broken")
            yield batch


class DiesInTraining(Tiny):
    """Kills its process, as the kernel does to one that takes too much memory."""

    def loss(self, model, batch):
        os._exit(9)


class TooFewBatches(Tiny):
    def batches(self, seed):
        return itertools.islice(super().batches(seed), 3)


class RaisesInConstructor(Tiny):
    def __init__(self):
        raise FileNotFoundError("data.csv")


class Incomplete:
    name = "incomplete"
    total_steps = 3


class BadHorizon(Tiny):
    total_steps = 0


class BadTitle(Tiny):
    title = None


instance = Tiny()


class DiesOnce(Tiny):
    """Kills its process with SIGKILL in the third batch, unless some process did so before."""

    def batches(self, seed):
        import signal
        from pathlib import Path

        mark = Path(os.environ["TINY_DIED"]) / str(seed)
        for number, batch in enumerate(super().batches(seed)):
            if number == 2 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


class Two(Tiny):
    """Another workload beside the first."""

    name = "two"
    total_steps = 8


class NormalisedAndDropped(Tiny):
    """Batch normalisation after dropout: statistics depend on what is drawn."""

    def build_model(self, seed):
        return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
