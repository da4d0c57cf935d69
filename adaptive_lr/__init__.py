"""Learning rates that look after themselves: control over any PyTorch optimizer and schedule, with its reasons."""

from adaptive_lr import schedules as schedules
