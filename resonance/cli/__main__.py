"""`python -m resonance.cli` is `resonance`."""

from resonance.cli.main import main

main()
