"""How the learning rate follows the batch size."""

from __future__ import annotations

from adaptive_lr.schedules import checks


def scale_lr(lr: float, batch_size: int, reference_batch_size: int, *, rule: str = "sqrt") -> float:
    """The learning rate for another batch size than the one that `lr` was tuned for.

    Args:
        lr: the learning rate at `reference_batch_size`, > 0.
        batch_size: samples (or tokens) an update, over all devices and accumulation steps, >= 1.
        reference_batch_size: the same for `lr`, >= 1.
        rule: `sqrt`: lr × √k with k = batch_size / reference_batch_size, which keeps the variance of the update
            (Krizhevsky 2014, arXiv:1404.5997), and is the rule for Adam and RMSprop (Malladi et al. 2022,
            arXiv:2205.10287, which scales 1 - beta by k besides). `linear`: lr × k, the rule for SGD with
            warm-up (Goyal et al. 2017, arXiv:1706.02677, section 2.1).

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.
    """
    checks.number("lr", lr, above_low=True)
    checks.integer("batch_size", batch_size, at_least=1)
    checks.integer("reference_batch_size", reference_batch_size, at_least=1)
    checks.choice("rule", rule, ("sqrt", "linear"))
    ratio = batch_size / reference_batch_size
    return float(lr * (ratio**0.5 if rule == "sqrt" else ratio))
