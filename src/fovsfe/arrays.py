"""The types of the arrays that packages exchange."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""photos: (height, width, 3) or (n, height, width, 3), RGB"""

Floats = npt.NDArray[np.float64]
"""probabilities and figures"""

Float32s = npt.NDArray[np.float32]
"""what networks take and give: features, targets, logits, class activation maps"""

Ints = npt.NDArray[np.int64]
"""positions of photos or labels, folds, shards, counts"""
