"""What `LossVariance` is for: `python -m experiments.growing_noise [--seeds 10] [--jobs 2]`.

Digits-mlp at its tuned peaks (`results/robustness.json`) held constant; from half of the run on its batches are a
sixteenth as large, or two in five of their labels are drawn at random. `constant`, `constant` with the law alone,
`constant+guarded`, and the guarded set without the law, with the same seeds. Finished runs are kept and not repeated.
Writes `results/growing_noise.json` and `results/growing_noise.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adaptive_lr.study.digits import Digits
from adaptive_lr.study.recipe import RECIPES, find_recipe
from experiments.guarded_parts import part
from experiments.paired import change_table, measure
from experiments.records import carried_out, header, heading, options, parsed, tuned_peaks, write

LAW = "loss_variance"
HALF = Digits.total_steps // 2
SMALL_BATCH = 4
LABEL_NOISE_SHARE = 0.4

ALONE = replace(
    RECIPES["constant+guarded"], name="constant, the law alone", controllers=lambda _: part(lambda name: name == LAW)
)
WITHOUT = replace(
    RECIPES["constant+guarded"], name="constant+guarded without", controllers=lambda _: part(lambda name: name != LAW)
)

_MODULE = "experiments.growing_noise"  # not __name__: other processes find it by this, also when it is the main module

PAIRS = ((f"{_MODULE}:ALONE", "constant"), ("constant+guarded", f"{_MODULE}:WITHOUT"))
"""Recipes with the law, and the same without."""


class SmallBatches(Digits):
    """The digits, a sixteenth of each batch from half of the run on: the noise of gradients grows fourfold."""

    name = "digits-small-batches"

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As they are, later the first few of each."""
        for step, (images, classes) in enumerate(super().batches(seed)):
            yield (images, classes) if step < HALF else (images[:SMALL_BATCH], classes[:SMALL_BATCH])


class WrongLabels(Digits):
    """The digits, with labels drawn at random for two in five from half of the run on."""

    name = "digits-wrong-labels"

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As they are, later with wrong labels."""
        generator = torch.Generator().manual_seed(seed)
        for step, (images, classes) in enumerate(super().batches(seed)):
            drawn = torch.randint(10, classes.shape, generator=generator)
            wrong = torch.rand(classes.shape, generator=generator) < LABEL_NOISE_SHARE
            yield images, classes if step < HALF else torch.where(wrong, drawn, classes)


WORKLOADS = {kind.name: f"{_MODULE}:{kind.__name__}" for kind in (SmallBatches, WrongLabels)}


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    controls = {find_recipe(treated).name: find_recipe(control).name for treated, control in PAIRS}
    changes = change_table(record["pairs"], controls, "change by the law")
    return "\n".join([heading("Noise that grows", record["about"]), INTRODUCTION, changes, ""])


INTRODUCTION = f"""\
Digits-mlp at its tuned peak, held constant; from update {HALF} of {Digits.total_steps} on batches have {SMALL_BATCH}
examples instead of {Digits.batch_size}, or {LABEL_NOISE_SHARE:.0%} of the labels are drawn at random. Final validation
loss and accuracy (on clean examples), means over seeds. *Change by the law*: of the loss, against the same
without `LossVariance`, with the paired 95 % interval and the p-value of the exact sign-flip test.
"""


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its table."""
    arguments = parsed(options("growing_noise", "What is LossVariance for?", seeds=10))

    def study() -> list[dict[str, Any]]:
        peaks = {optimizer: lr for (_, optimizer), lr in tuned_peaks(arguments.record, ["digits-mlp"]).items()}
        recipes = [recipe for pair in PAIRS for recipe in reversed(pair)]
        return measure(WORKLOADS, recipes, peaks, Digits.total_steps, seeds=arguments.seeds, jobs=arguments.jobs,
                       output=arguments.output)  # fmt: skip

    entries = carried_out("growing_noise", study, arguments.output)
    write(arguments.record, arguments.name, header("growing_noise", arguments.seeds), {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
