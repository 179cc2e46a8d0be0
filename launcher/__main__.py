"""``python -m launcher``."""

from .cli import main

main()
