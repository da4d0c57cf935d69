"""`python -m adaptive_lr.cli`: the same as `adaptive-lr`."""

from adaptive_lr.cli import main

main()
