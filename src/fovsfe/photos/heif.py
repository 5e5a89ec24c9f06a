"""HEIC and HEIF: pillow-heif's image, which can be made smaller as it is decoded."""

from typing import Any

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

_STRIP = 64  # rows of the smaller photo that are made at a time


def use_one_thread() -> None:
    """Makes the decoder work in the calling thread."""
    pillow_heif.options.DECODE_THREADS = 1


class HeifFile(pillow_heif.HeifImageFile):  # type: ignore[misc]  # it has no types
    """A HEIC that can be made smaller by a whole factor, strip by strip, as a JPEG can by its decoder.

    Pillow would hold all of its pixels a second time, which is half of the memory that a phone's photo takes.
    """

    _heif_file: Any
    _scale = 1

    def set_scale(self, scale: int) -> None:
        """Makes the photo smaller by so much, each pixel being the mean of those that it replaces."""
        self._scale = scale
        self._size = tuple(-(-side // scale) for side in self.size)

    def load(self) -> Any:
        """Decodes the photo. Raises what pillow-heif raises."""
        if self._scale > 1 and self._heif_file is not None:
            frame = self._heif_file[self.tell()]
            pixels, stride, (width, height) = memoryview(frame.data), frame.stride, frame.size
            scaled = Image.new(frame.mode, (-(-width // self._scale), -(-height // self._scale)))
            step = _STRIP * self._scale
            for top in range(0, height, step):
                rows = min(step, height - top)
                data = bytes(pixels[top * stride : (top + rows) * stride])
                strip = Image.frombuffer(frame.mode, (width, rows), data, "raw", frame.mode, stride, 1)
                scaled.paste(strip.reduce(self._scale), (0, top // self._scale))
            self._im, self._mode, self._size = scaled.im, scaled.mode, scaled.size
            self._heif_file = self.fp = None
        return super().load()
