"""What a person can set is documented; what is documented exists."""

import re
from pathlib import Path

from pydantic import BaseModel

from fovsfe.recipe import Member, Recipe

ROOT = Path(__file__).parent.parent


def _keys(model: type[BaseModel]) -> set[str]:
    tables = {name: field.annotation for name, field in model.model_fields.items()}
    keys = set()
    for name, kind in tables.items():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys |= _keys(kind)
        elif name != "members":
            keys.add(name)
    return keys


def test_every_recipe_key_is_documented_and_nothing_else() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/recipes.md").read_text(encoding="utf-8"), re.M)
    documented = {key.split(".")[-1] for row in rows for key in re.findall(r"`([\w.]+)`", row)}
    assert documented == _keys(Recipe) | _keys(Member)


def test_every_ready_recipe_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for file in (ROOT / "src/fovsfe/recipes").glob("*.toml"):
        assert f"| `{file.stem}` |" in text
