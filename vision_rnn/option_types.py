"""The numbers that options take, refused outside their range by the parser, plain numbers to everything else."""

from typing import TYPE_CHECKING

__all__ = ["NonNegativeFloat", "PositiveFloat", "PositiveInt", "Seed", "Share"]

if TYPE_CHECKING:
    PositiveInt = Seed = int
    PositiveFloat = NonNegativeFloat = Share = float
else:
    from jsonargparse.typing import ClosedUnitInterval as Share
    from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt, restricted_number_type

    # What torch takes as a seed.
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)])
