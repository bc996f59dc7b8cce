"""Small painted pictures for the leaves to show."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scene(hue=0.58, *, sun=(0.7, 0.3), size=(512, 384), blur=0.0):
    """Hills under a sky, with a sun at `sun`."""
    width, height = size
    down = np.linspace(0, 1, height)[:, None]
    across = np.linspace(0, 1, width)[None]
    sky = np.stack([down * 0 + across * 0 + hue, 0.55 - 0.45 * down + across * 0, 0.62 + 0.38 * down + across * 0], -1)
    image = Image.fromarray((sky * 255).astype(np.uint8), "HSV").convert("RGB")
    draw = ImageDraw.Draw(image)
    x, y, r = sun[0] * width, sun[1] * height, 0.09 * width
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 214, 120))
    for i, colour in enumerate(((92, 120, 150), (64, 98, 110), (38, 66, 62))):
        base = height * (0.55 + 0.14 * i)
        ridge = [(px, base + height * 0.09 * np.sin(px / width * 7 + i * 2.1)) for px in range(0, width + 8, 8)]
        draw.polygon([(0, height), *ridge, (width, height)], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur else image
