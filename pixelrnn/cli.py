"""The `pixelrnn` command. This version of the package holds no pixel model yet, and the command says so."""

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Say what is missing; exit status 2."""
    parser = argparse.ArgumentParser(prog="pixelrnn", description=__doc__)
    parser.parse_known_args(argv)
    parser.error("the pixel models are not part of this version; upgrade vision-rnn when a newer one is out")
