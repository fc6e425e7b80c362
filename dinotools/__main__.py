"""``python -m dinotools``."""

from dinotools.cli import main

main()
