"""`python server_operator.py`, as the service that `bareboat provision` replaces was started; same variables."""

import sys

from bareboat.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["provision"]
    main.main()
