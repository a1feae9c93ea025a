"""`python -m mutirao`."""

import signal
import sys

# Ctrl-C while the rest is being imported is no error.
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

from mutirao.cli import main  # noqa: E402

main()
