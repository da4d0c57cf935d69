"""What control costs, against what people use today: `python -m benchmarks --help`.

Imports torch, Triton (through `adaptive_lr_kernels`) and the standard library; matplotlib where it is there.
"""
