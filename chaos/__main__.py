"""`python -m chaos`, the same as `zeroloss`."""

from chaos.cli import main

main()
