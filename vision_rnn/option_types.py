"""The numbers that options take, refused outside their range by the parser, plain numbers to everything else.

Settings, which a configuration file may give too, check their numbers with `check_range`.
"""

from typing import TYPE_CHECKING

from vision_rnn.errors import UserError

__all__ = ["BeamSize", "NonNegativeFloat", "NumDraws", "PositiveInt", "Seed", "Share", "Temperature", "check_range"]

# What every library takes as a size, and Lightning as a seed.
LARGEST_SIZE, LARGEST_TRAINING_SEED = 2**31 - 1, 2**32 - 1

if TYPE_CHECKING:
    BeamSize = NumDraws = PositiveInt = Seed = int
    NonNegativeFloat = Share = Temperature = float
else:
    from jsonargparse.typing import ClosedUnitInterval as Share
    from jsonargparse.typing import NonNegativeFloat, restricted_number_type

    PositiveInt = restricted_number_type("PositiveSize", int, [(">", 0), ("<=", LARGEST_SIZE)])
    # Memory grows with these. Linux kills a process that uses too much of it, without a message.
    BeamSize = restricted_number_type("BeamSize", int, [(">", 0), ("<=", 1000)])
    NumDraws = restricted_number_type("NumDraws", int, [(">", 0), ("<=", 10_000)])
    # Beyond these, single precision turns the probabilities into infinity or NaN.
    Temperature = restricted_number_type("Temperature", float, [(">=", 0.001), ("<=", 1000.0)])
    # What torch takes as a seed.
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)])


def check_range(setting: str, value: float, least: float, most: float = LARGEST_SIZE) -> None:
    """Refuse a number that a setting cannot have.

    Raises:
        UserError: It is less than `least`, greater than `most`, or NaN.
    """
    # Written so that NaN, for which every comparison is false, is refused too.
    if not least <= value <= most:
        fix = f"at most {most}" if value > most else f"at least {least}"
        raise UserError(f"{setting}: {value} is out of range; give {fix}")
