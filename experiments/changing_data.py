"""Data that change while control watches: `python -m experiments.changing_data [--seeds 10] [--jobs 2]`.

Digits-mlp for 1,400 updates at its tuned peaks (`results/robustness.json`), held constant. Every 280 updates its pixels
are permuted anew, or its images become noisier: the loss rises, whatever the learning rate is. `constant` and
`constant+guarded` with the same seeds; a healthy run is not to be harmed. Finished runs are kept and not repeated.
Writes `results/changing_data.json` and `results/changing_data.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_lr.study.digits import Digits
from adaptive_lr.study.workload import Evaluation, Split
from experiments.paired import change_table, measure
from experiments.records import carried_out, header, heading, options, parsed, tuned_peaks, write

PARTS, PART = 5, 280
"""Parts of a run, and updates of each; the first is as long as `Rescue` watches, with a margin."""

NOISE = 0.75
"""Standard deviation that is added to the noise of standardised pixels with each part."""

PLAIN, GUARDED = "constant", "constant+guarded"

_MODULE = "experiments.changing_data"  # not __name__: other processes find it by this, also when it is the main module


class PermutedPixels(Digits):
    """The digits, in each part with another fixed permutation of the pixels; evaluated with the last one."""

    name = "digits-permuted"
    total_steps = PARTS * PART

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As they are, then permuted."""
        for step, (images, classes) in enumerate(super().batches(seed)):
            yield images[:, permutation(min(step // PART, PARTS - 1))], classes

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """On the pixels of the last part."""
        return super().evaluate(_Permuting(model), split)


class NoisierImages(Digits):
    """The digits, in each part with more noise on the pixels; evaluated without."""

    name = "digits-noisier"
    total_steps = PARTS * PART

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As they are, then with noise."""
        generator = torch.Generator().manual_seed(seed)
        for step, (images, classes) in enumerate(super().batches(seed)):
            noise = torch.randn(images.shape, generator=generator)
            yield images + NOISE * min(step // PART, PARTS - 1) * noise, classes


class _Permuting(nn.Module):
    """A model that is given its images as in the last part."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Scores."""
        scores: Tensor = self.model(images[:, permutation(PARTS - 1)])
        return scores


def permutation(part: int) -> Tensor:
    """The order of the 64 pixels in a part; in the first as they are."""
    return torch.randperm(64, generator=torch.Generator().manual_seed(part)) if part else torch.arange(64)


WORKLOADS = {kind.name: f"{_MODULE}:{kind.__name__}" for kind in (PermutedPixels, NoisierImages)}


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    changes = change_table(record["pairs"], {GUARDED: PLAIN}, "change by control")
    return "\n".join([heading("Data that change", record["about"]), INTRODUCTION, changes, ""])


INTRODUCTION = f"""\
Digits-mlp at its tuned peak, held constant, for {PARTS * PART} updates. Every {PART} updates the pixels are permuted
anew (evaluated with the last permutation), or noise of {NOISE} more is added to standardised pixels (evaluated without
noise). Final validation loss and accuracy, means over seeds. *Change by control*: of the loss, with the paired 95 %
interval and the p-value of the exact sign-flip test.
"""


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its table."""
    arguments = parsed(options("changing_data", "Is a healthy run harmed when its data change?", seeds=10))

    def study() -> list[dict[str, Any]]:
        peaks = {optimizer: lr for (_, optimizer), lr in tuned_peaks(arguments.record, ["digits-mlp"]).items()}
        return measure(WORKLOADS, (PLAIN, GUARDED), peaks, PARTS * PART, seeds=arguments.seeds, jobs=arguments.jobs,
                       output=arguments.output)  # fmt: skip

    entries = carried_out("changing_data", study, arguments.output)
    write(arguments.record, arguments.name, header("changing_data", arguments.seeds), {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
