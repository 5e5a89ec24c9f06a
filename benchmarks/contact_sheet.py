"""Makes docs/drawn.jpg, the README's picture: drawn photos of the ten car models.

python -m benchmarks.contact_sheet
"""

import io
from pathlib import Path
from random import Random

from PIL import Image

from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

CELL = (160, 120)
COLUMNS, ROWS = 5, 4


def main() -> None:
    """Writes the picture, two cells for each model."""
    sheet = Image.new("RGB", (CELL[0] * COLUMNS, CELL[1] * ROWS))
    for cell in range(COLUMNS * ROWS):
        photo = draw_photo(MODELS[cell % len(MODELS)], Random(f"sheet/{cell}"))
        image = Image.open(io.BytesIO(photo)).convert("RGB").resize(CELL)
        sheet.paste(image, (CELL[0] * (cell % COLUMNS), CELL[1] * (cell // COLUMNS)))
    sheet.save(Path(__file__).parent.parent / "docs" / "drawn.jpg", quality=85)


if __name__ == "__main__":
    main()
