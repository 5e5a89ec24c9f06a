"""Makes docs/drawn.jpg, the README's picture: drawn photos of the ten car models, a column a model.

python -m benchmarks.contact_sheet
"""

import io
from pathlib import Path
from random import Random

from PIL import Image

from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

CELL = (160, 120)
ROWS = 4


def main() -> None:
    sheet = Image.new("RGB", (CELL[0] * 5, CELL[1] * ROWS))
    for place in range(5 * ROWS):
        photo = draw_photo(MODELS[place % 10], Random(f"sheet/{place}"))
        image = Image.open(io.BytesIO(photo)).convert("RGB").resize(CELL)
        sheet.paste(image, (CELL[0] * (place % 5), CELL[1] * (place // 5)))
    sheet.save(Path(__file__).parent.parent / "docs" / "drawn.jpg", quality=85)


if __name__ == "__main__":
    main()
