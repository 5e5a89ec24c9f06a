"""`python -m fovsfe`, and so `torchrun -m fovsfe`."""

from fovsfe.cli import main

main()
