"""`python -m mutirao`."""

from mutirao.cli import main

main()
