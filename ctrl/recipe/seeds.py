"""Seeds: the noise that a picture starts from, of one seed or between two."""

from __future__ import annotations

from dataclasses import dataclass

from ctrl.recipe.checks import integer, number, set_field, suggest_arguments

MAX_SEED = 2**63 - 1


@suggest_arguments
@dataclass(frozen=True)
class SeedBlend:
    """Initial noise between that of two seeds, to use in place of a seed.

    - `first` and `second` are the seeds.
    - `weight`, 0 to 1, is the way from the first to the second.

    The noise is interpolated spherically (Shoemake 1985, https://doi.org/10.1145/325165.325242), as variation seeds
    are in AUTOMATIC1111's web UI, so that it stays noise. At weight 0 and 1 it is bit-equal to the plain seed. Samplers
    that draw noise in every step draw that from the first seed.
    """

    first: int
    second: int
    weight: float = 0.5

    def __post_init__(self) -> None:
        set_field(self, "first", integer("SeedBlend's first seed", self.first, 0, MAX_SEED))
        set_field(self, "second", integer("SeedBlend's second seed", self.second, 0, MAX_SEED))
        set_field(self, "weight", number("SeedBlend's weight", self.weight, 0, 1))

    def __str__(self) -> str:
        return f"{self.first} to {self.second} ({self.weight:g})"

    @property
    def effective(self) -> int | SeedBlend:
        """A plain seed at either end, or where both are the same."""
        if self.weight == 0 or self.first == self.second:
            return self.first
        return self.second if self.weight == 1 else self


def seed(value: object) -> int | SeedBlend:
    """A seed, or a blend of two."""
    if value is None or (isinstance(value, int) and value == -1):  # how other programs ask for any seed
        raise ValueError(
            f"seed must be a whole number from 0 to {MAX_SEED}, got {value}; "
            "for any, draw one: random.randrange(2**32)."
        )
    return value if isinstance(value, SeedBlend) else integer("seed", value, 0, MAX_SEED)


def first_seed(value: int | SeedBlend) -> int:
    """The seed of everything but the initial noise."""
    return value.first if isinstance(value, SeedBlend) else value
