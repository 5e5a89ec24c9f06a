"""fovsfe recipes."""

import json

import pytest

from fovsfe import recipe as recipes


def test_recipes_are_listed(fovsfe):
    ended = fovsfe("recipes")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.builtin_recipes())
    assert all(len(line.split()) > 3 for line in lines)


def test_recipes_as_json(fovsfe):
    rows = json.loads(fovsfe("recipes", "--json").out)
    assert [row["name"] for row in rows] == list(recipes.builtin_recipes())
    assert all(len(row["summary"].split()) > 2 for row in rows)


@pytest.mark.parametrize("name", recipes.builtin_recipes())
def test_a_printed_recipe_is_the_same_recipe(fovsfe, tmp_path, name):
    ended = fovsfe("recipes", name)
    assert ended.code == 0
    assert ended.out == recipes.recipe_text(name)
    (tmp_path / "mine.toml").write_text(ended.out, encoding="utf-8")
    assert recipes.load_recipe(str(tmp_path / "mine.toml")) == recipes.load_recipe(name)


@pytest.mark.parametrize("name", recipes.builtin_recipes())
def test_a_recipe_as_json_is_the_same_recipe(fovsfe, name):
    raw = json.loads(fovsfe("recipes", name, "--json").out)
    assert recipes.Recipe.model_validate_json(json.dumps(raw)) == recipes.load_recipe(name)
