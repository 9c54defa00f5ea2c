"""`python -m bulba`."""

from bulba.cli import main

main()
