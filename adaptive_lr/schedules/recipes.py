"""Published settings by scenario: where to start, and who says so.

    recipe = recipes.llm_pretraining(total_steps)
    optimizer = recipe.build(model.parameters())
    control = AdaptiveLR(optimizer, schedule=recipe.schedule)

Each setting carries the source that it was taken from: a paper with its section, or the code of its authors. They are
starting points for the models of those sources; the best peak depends on model, data and batch size (see `scale_lr`,
and the range test).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from adaptive_lr.schedules import checks
from adaptive_lr.schedules.base import Schedule
from adaptive_lr.schedules.decays import Constant, Cosine, Linear
from adaptive_lr.schedules.phases import Warmup

_LLAMA2 = "Llama 2 (Touvron et al. 2023, arXiv:2307.09288)"
_GPT3 = "GPT-3 (Brown et al. 2020, arXiv:2005.14165)"
_INSTRUCTGPT = "InstructGPT (Ouyang et al. 2022, arXiv:2203.02155)"
_DPO = "DPO (Rafailov et al. 2023, arXiv:2305.18290)"
_LORA = "LoRA (Hu et al. 2021, arXiv:2106.09685)"
_QLORA = "QLoRA (Dettmers et al. 2023, arXiv:2305.14314)"
_SBERT = "Sentence-BERT (Reimers & Gurevych 2019, arXiv:1908.10084)"


@dataclass(frozen=True)
class Recipe:
    """A starting point for one scenario.

    Attributes:
        name: the scenario.
        optimizer: the class name in `torch.optim`.
        arguments: the optimizer's keyword arguments; `lr` is the peak.
        max_grad_norm: for `clip_grad_norm_`; None: no clipping.
        schedule: the factor on the peak, for the given number of steps.
        sources: where each setting is from, by the name of the argument, `optimizer`, `max_grad_norm` and `schedule`.
    """

    name: str
    optimizer: str
    arguments: Mapping[str, Any]
    max_grad_norm: float | None
    schedule: Schedule
    sources: Mapping[str, str]

    def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer over parameters or parameter groups."""
        optimizer: torch.optim.Optimizer = getattr(torch.optim, self.optimizer)(parameters, **self.arguments)
        return optimizer


def _warmed_up(total_steps: int, warmup_steps: int, rest: Callable[[int], Schedule]) -> Schedule:
    """The published warm-up, but never more than a tenth of the run."""
    checks.integer("total_steps", total_steps, at_least=1)
    steps = min(warmup_steps, total_steps // 10)
    return Warmup(steps).then(rest(total_steps - steps))


def llm_pretraining(total_steps: int) -> Recipe:
    """Pre-training of a language model from scratch, after Llama 2.

    Args:
        total_steps: optimizer updates of the run, >= 1.
    """
    return Recipe(
        name="llm_pretraining",
        optimizer="AdamW",
        arguments={"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-5, "weight_decay": 0.1},
        max_grad_norm=1.0,
        schedule=_warmed_up(total_steps, 2000, lambda steps: Cosine(steps, eta_min=0.1)),
        sources={
            "optimizer": f"{_LLAMA2}, section 2.2.",
            "lr": f"{_LLAMA2}, table 1: 3e-4 for 7B and 13B; 1.5e-4 for 34B and 70B.",
            "betas": f"{_LLAMA2}, section 2.2; {_GPT3}, appendix B, has the same.",
            "eps": f"{_LLAMA2}, section 2.2; {_GPT3}, appendix B, has 1e-8.",
            "weight_decay": f"{_LLAMA2}, section 2.2; {_GPT3}, appendix B, has the same.",
            "max_grad_norm": f"{_LLAMA2}, section 2.2; {_GPT3}, appendix B, has the same.",
            "schedule": f"{_LLAMA2}, section 2.2: 2000 steps of warm-up, then cosine to a tenth of the peak.",
        },
    )


def supervised_fine_tuning(total_steps: int) -> Recipe:
    """Supervised fine-tuning of all weights of a language model on instructions, after Llama 2 and InstructGPT.

    Args:
        total_steps: optimizer updates of the run, >= 1.
    """
    checks.integer("total_steps", total_steps, at_least=1)
    return Recipe(
        name="supervised_fine_tuning",
        optimizer="AdamW",
        arguments={"lr": 2e-5, "betas": (0.9, 0.95), "weight_decay": 0.1},
        max_grad_norm=1.0,
        schedule=Cosine(total_steps, eta_min=0.1),
        sources={
            "optimizer": f"{_LLAMA2}, as in its pre-training (section 2.2); {_INSTRUCTGPT}, appendix C, has Adam.",
            "lr": f"{_LLAMA2}, section 3.1; {_INSTRUCTGPT}, appendix C.1, has 9.65e-6 (1.3B, 6B) and 5.03e-6 (175B).",
            "betas": f"{_INSTRUCTGPT}, appendix C.",
            "weight_decay": f"{_LLAMA2}, section 3.1.",
            "max_grad_norm": f"{_LLAMA2}, as in its pre-training (section 2.2); not stated for fine-tuning.",
            "schedule": f"{_INSTRUCTGPT}, appendix C.1: cosine to a tenth of the peak, no warm-up; {_LLAMA2}, "
            "section 3.1, has a cosine too, and does not state its end.",
        },
    )


def rlhf(total_steps: int) -> Recipe:
    """Reinforcement learning from human feedback by PPO, after Llama 2-Chat.

    Args:
        total_steps: optimizer updates of the run, >= 1.
    """
    checks.integer("total_steps", total_steps, at_least=1)
    return Recipe(
        name="rlhf",
        optimizer="AdamW",
        arguments={"lr": 1e-6, "betas": (0.9, 0.95), "eps": 1e-5, "weight_decay": 0.1},
        max_grad_norm=1.0,
        schedule=Constant(),
        sources=dict.fromkeys(
            ("optimizer", "lr", "betas", "eps", "weight_decay", "max_grad_norm", "schedule"),
            f"{_LLAMA2}, section 3.2.3: PPO of all models, with a constant learning rate.",
        ),
    )


def dpo(total_steps: int) -> Recipe:
    """Direct preference optimisation, after its authors.

    Args:
        total_steps: optimizer updates of the run, >= 1.
    """
    code = "the authors' code (github.com/eric-mitchell/direct-preference-optimization, config/config.yaml)"
    return Recipe(
        name="dpo",
        optimizer="RMSprop",
        arguments={"lr": 5e-7},
        max_grad_norm=10.0,
        schedule=_warmed_up(total_steps, 150, lambda _: Constant()),
        sources={
            "optimizer": f"{_DPO}, appendix B.",
            "lr": f"{_DPO}, {code}; the paper, appendix B, has 1e-6.",
            "max_grad_norm": f"{_DPO}, {code}.",
            "schedule": f"{_DPO}, appendix B: 150 steps of linear warm-up; then constant: {code}.",
        },
    )


def lora(total_steps: int) -> Recipe:
    """Low-rank adapters on a frozen language model, after the authors' GPT-2 runs.

    Args:
        total_steps: optimizer updates of the run, >= 1.
    """
    code = "the authors' code (github.com/microsoft/LoRA, examples/NLG)"
    table = f"{_LORA}, appendix D.3, table 11"
    return Recipe(
        name="lora",
        optimizer="AdamW",
        arguments={"lr": 2e-4, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01},
        max_grad_norm=None,
        schedule=_warmed_up(total_steps, 500, lambda steps: Linear(steps, start_factor=1.0, end_factor=0.0)),
        sources={
            "optimizer": f"{table}.",
            "lr": f"{table}; {_QLORA} has the same for 7B and 13B, and 1e-4 for 33B and 65B.",
            "betas": f"{_LORA}, {code}.",
            "eps": f"{_LORA}, {code}.",
            "weight_decay": f"{table}: 0.01 on E2E and WebNLG, none on DART.",
            "max_grad_norm": f"{_LORA}, {code}, does not clip; {_QLORA} clips at 0.3.",
            "schedule": f"{table}: 500 steps of warm-up, then linear; to zero: {code}.",
        },
    )


def embeddings(total_steps: int) -> Recipe:
    """Fine-tuning of a pre-trained encoder into a sentence or retrieval embedding, after Sentence-BERT.

    Args:
        total_steps: optimizer updates of the run, >= 1.
    """
    code = "the authors' code (github.com/UKPLab/sentence-transformers, defaults of `SentenceTransformer.fit`)"
    checks.integer("total_steps", total_steps, at_least=1)
    return Recipe(
        name="embeddings",
        optimizer="AdamW",
        arguments={"lr": 2e-5, "weight_decay": 0.01},
        max_grad_norm=1.0,
        schedule=_warmed_up(
            total_steps, total_steps // 10, lambda steps: Linear(steps, start_factor=1.0, end_factor=0.0)
        ),
        sources={
            "optimizer": f"{_SBERT}, {code}; the paper, section 3.1, has Adam.",
            "lr": f"{_SBERT}, section 3.1.",
            "weight_decay": f"{_SBERT}, {code}, which spares biases and the weights of LayerNorm.",
            "max_grad_norm": f"{_SBERT}, {code}.",
            "schedule": f"{_SBERT}, section 3.1: linear warm-up over a tenth; then linear to zero: {code}.",
        },
    )
