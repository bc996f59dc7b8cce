"""Names of sources in a batch: the parts of each recipe have numbers of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctrl.maps.sums import Array, Key


@dataclass(frozen=True)
class Names:
    """What a picture's recipe calls a source that its batch's first recipe calls "style 0"; equal where not listed."""

    own: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, source: str) -> str:
        """The picture's own name, also of a part of a source, "region 0: start and padding"."""
        name, colon, part = source.partition(":")
        return f"{self.own.get(name, name)}{colon}{part}"

    def keys(self, means: Mapping[Key, tuple[Array, float]]) -> dict[Key, tuple[Array, float]]:
        """Means by the picture's own names."""
        return {key._replace(source=self(key.source)): mean for key, mean in means.items()}


SAME = Names()
