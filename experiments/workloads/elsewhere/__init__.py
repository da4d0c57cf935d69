"""Ten problems on which no constant was chosen, of kinds that the workloads beside them do not have.

They were written by somebody who had no part in the laws, and before the laws were run on them. Whatever is random in a
loss (noise, samples of a latent) comes with its batch, so that a run follows from its seed alone. Losses are positive
and have a natural zero or unit, so that their ratios mean something.
"""
