"""``python -m axoneme.core.cli``."""

from axoneme.core.cli.main import main

main()
