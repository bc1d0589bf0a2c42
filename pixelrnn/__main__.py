"""Entry point of `python -m pixelrnn`."""

import sys

from pixelrnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
