"""Photos made small for the page, the last ones kept."""

from collections import OrderedDict
from threading import Lock

from fovsfe.errors import UsageError
from fovsfe.photos.decode import BadPhoto
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.reader import read_unchanged
from fovsfe.report.thumbnails import small_jpeg
from fovsfe.review.material import Photos

SIDES = {"large": 960, "small": 240}  # pixels of the longer side
KEPT_BYTES = 32 * 2**20
QUALITY = 80


class Thumbnails:
    """JPEGs of photos, made in the decode pool; the last KEPT_BYTES of them stay in memory."""

    def __init__(self, photos: Photos) -> None:
        """`photos`: those that are shown, by their rows."""
        self._photos = photos
        self._kept: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def jpeg(self, row: int, size: str) -> bytes:
        """Returns a photo without metadata, upright, its longer side at most that of SIDES.

        Raises UsageError if there is no such photo or size, or it cannot be read or has changed.
        """
        if size not in SIDES or not 0 <= row < len(self._photos.table):
            raise UsageError("there is no such photo")
        with self._lock:
            if (row, size) in self._kept:
                self._kept.move_to_end((row, size))
                return self._kept[row, size]
        made = self._make(row, SIDES[size])
        with self._lock:
            if (row, size) not in self._kept:
                self._kept[row, size] = made
                self._bytes += len(made)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def _make(self, row: int, side: int) -> bytes:
        photo, max_pixels = self._photos.table.iloc[row], self._photos.settings.max_pixels
        try:
            data = read_unchanged(self._photos.root, photo["path"], photo["sha256"])
            pixels = shared_pool().decode(data, (side, side), max_pixels).pixels[0]
        except (OSError, BadPhoto) as error:
            raise UsageError(f"{photo['path']}: {error}") from error
        return small_jpeg(pixels, side, QUALITY)
