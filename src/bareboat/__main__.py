"""`python -m bareboat` is the `bareboat` command."""

from bareboat.cli.main import main

main()
