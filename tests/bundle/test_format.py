import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Made

from fovsfe.bundle import format
from fovsfe.errors import FovsfeError
