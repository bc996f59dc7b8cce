"""The type of everything that can be read as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from PIL import Image
    from torch import Tensor

    from ctrl.images.picture import Picture

    class HasImage(Protocol):
        """A `Shot`, or anything else with a PIL picture."""

        @property
        def image(self) -> Image.Image:
            """The picture."""

    class Readable(Protocol):
        """An open binary file."""

        def read(self, size: int = ..., /) -> bytes:
            """The next bytes."""

    PictureLike: TypeAlias = (
        Picture | Image.Image | np.ndarray[Any, Any] | Tensor | str | PathLike[str] | bytes | Readable | HasImage
    )
else:
    PictureLike = Any  # a type only: to import torch for it would cost seconds
