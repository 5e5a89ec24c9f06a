"""recipe: from TOML and back, changes by --set, and one clear line for whatever is wrong."""

import tomllib
from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fovsfe import recipe
from fovsfe.ensemble.blend import BLEND_KINDS
from fovsfe.errors import FovsfeError
from fovsfe.recipe import RESERVED_NAMES, MemberSettings, Recipe, SearchSettings

TOML = """
seed = 3

[photos]
resize_mode = "pad"

[training]
stages = [0, 1]

[[members]]
backbone = "mobilenetv1_100"
size = [120, 160]

[[members]]
backbone = "hf_hub:timm/densenet169.tv_in1k"
size = [96, 96]
name = "днс"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML, encoding="utf-8")
    return str(path)


def error_line(file, *changes):
    with pytest.raises(FovsfeError) as caught:
        recipe.load_recipe(file, recipe.parse_changes(changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- from TOML and back


def numbers(low, high, **options):
    return st.floats(low, high, **options)


def some(*choices):
    return st.sampled_from(choices)


def names(alphabet, **options):
    return st.text(alphabet, max_size=20, **options)


STAGES = st.lists(numbers(0, 1), min_size=1, max_size=6, unique=True).map(sorted)
MEMBERS = st.lists(
    st.builds(
        MemberSettings,
        backbone=st.tuples(names("aZ9_.:/@+-ж"), some("a", "9", "_", "-", "ж")).map("".join),
        size=st.tuples(st.integers(32, 2048), st.integers(32, 2048)),
        name=st.just("") | st.tuples(names("aZ9_.+-ж"), some("a", "-", "ж")).map("".join),
        head=some("linear", "root", "hidden"),
        seed=st.integers(0, 2**31 - 1),
        batch_size=st.none() | st.integers(2, 4096),
        time_weight=numbers(0, 1000, exclude_min=True),
        stages=st.none() | STAGES,
    ),
    max_size=4,
    unique_by=lambda member: member.unique_name,
)
WORDS = {"title": st.text(max_size=80), "noun": st.text(max_size=40), "plural": st.text(max_size=40)}
TABLES = {
    "photos": {
        "resize_mode": some("pad", "squash", "crop"),
        "max_pixels": st.integers(10_000, 10**9),
        "cache_gb": numbers(0, 1e308),
        "damaged_shards": some("refuse", "skip"),
        "num_workers": st.integers(0, 64) | st.just("auto"),
    },
    "split": {"holdout": numbers(0.05, 0.5), "folds": some(0, 2, 20), "given": some("keep", "pool")},
    "augment": {
        "strength": some("none", "light", "strong"),
        "mixup": numbers(0, 10),
        "cutmix": numbers(0, 10),
        "measure_robustness": st.booleans(),
    },
    "training": {
        "stages": STAGES,
        "head_epochs": st.integers(1, 1000),
        "epochs": st.integers(1, 1000),
        "batch_size": st.integers(2, 4096),
        "optimizer": some("adamw", "sgd"),
        "head_lr": numbers(0, 10, exclude_min=True),
        "lr": numbers(0, 10, exclude_min=True),
        "layer_decay": numbers(0, 1, exclude_min=True),
        "weight_decay": numbers(0, 1e300),
        "warmup": numbers(0, 0.9),
        "label_smoothing": numbers(0, 1, exclude_max=True),
        "ema": numbers(0, 1, exclude_max=True),
        "patience": st.integers(1, 1000),
        "min_delta": numbers(0, 1),
        "precision": some("auto", "fp32", "bf16"),
        "tensorboard": st.booleans(),
    },
    "ensemble": {
        "metric": some("accuracy", "balanced", "f1", "logloss"),
        "tta": st.lists(some("flip", "zoom", "zoom-flip", "wide", "wide-flip"), max_size=5),
    },
    "strangers": {"withheld": numbers(0, 0.5)},
    "pseudo_labels": {"keep": some("all", "confident"), "confidence": numbers(0, 1), "soft": st.booleans()},
    "about": {
        **WORDS,
        "icon": st.text(max_size=16),
        "accent": some("", "#0b5cad", "#FFFFFF"),
        "ru": st.fixed_dictionaries(WORDS),
    },
}


@settings(max_examples=50, deadline=None)
@given(
    tables=st.fixed_dictionaries({name: st.fixed_dictionaries(keys) for name, keys in TABLES.items()}),
    search=st.none() | st.just({}),
    members=MEMBERS,
    licence=some("permissive", "any"),
    seed=st.integers(0, 2**31 - 1),
    rounds=st.integers(1, 2),
)
def test_a_recipe_survives_toml(tmp_path_factory, tables, search, members, licence, seed, rounds):
    assume(members or search is not None)
    top = {"licence": licence, "seed": seed, "rounds": rounds}
    first = Recipe(**tables, **top, search=search, members=tuple(members))
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(recipe.to_toml(first), encoding="utf-8")
    assert recipe.load_recipe(str(file)) == first


def test_the_tables_above_leave_no_key_out():
    for name, keys in TABLES.items():
        assert list(keys) == list(Recipe.model_fields[name].annotation.model_fields)
    assert not SearchSettings.model_fields
    assert TABLES.keys() | {"search", "members", "licence", "seed", "rounds"} == Recipe.model_fields.keys()


def test_toml_spells_out_every_key(file):
    raw = tomllib.loads(recipe.to_toml(recipe.load_recipe(file)))
    assert set(raw) == set(Recipe.model_fields) - {"search"}  # there is none
    assert raw["training"]["lr"] == 3e-4
    assert set(raw["about"]["ru"]) == {"title", "noun", "plural"}


def test_every_built_in_recipe_is_valid():
    for name, text in recipe.builtin_recipes().items():
        read = recipe.load_recipe(name)
        assert text.startswith("#"), f"{name} opens with what it is for"
        assert Recipe.model_validate(tomllib.loads(recipe.to_toml(read))) == read


def test_a_recipe_does_not_change(file):
    with pytest.raises(ValueError, match="frozen"):
        recipe.load_recipe(file).seed = 4


def test_a_members_unique_name_is_its_name_or_the_end_of_its_backbone(file):
    assert [member.unique_name for member in recipe.load_recipe(file).members] == ["mobilenetv1_100", "днс"]
    assert recipe.load_recipe(file, {"members.1.name": ""}).members[1].unique_name == "densenet169.tv_in1k"


# ---- --set


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("seed=7", 7),
        ("photos.resize_mode=crop", "crop"),
        ('photos.resize_mode="crop"', "crop"),
        ("photos.resize_mode = crop ", "crop"),
        ("training.lr=1e-4", 1e-4),
        ("training.lr=1", 1.0),
        ("augment.measure_robustness=true", True),
        ("training.stages=[0, 0.5, 1.0]", (0.0, 0.5, 1.0)),
        ("ensemble.tta=[]", ()),
        ('ensemble.tta=["flip", "wide"]', ("flip", "wide")),
        ('pseudo_labels={keep = "all", soft = false}', {"keep": "all", "confidence": 0.8, "soft": False}),
        ("members.0.size=[64, 96]", (64, 96)),
        ("members.1.size.0=64", (64, 96)),
        ("members.1.name=second", "second"),
        ("members.0.batch_size=8", 8),
        ("members.0.stages=[0]", (0.0,)),
        ("licence=any", "any"),
    ],
)
def test_set_changes_a_key(file, change, value):
    key = change.partition("=")[0].strip().removesuffix(".0")
    found = recipe.load_recipe(file, recipe.parse_changes([change])).model_dump()
    for part in key.split("."):
        found = found[int(part) if part.isdecimal() else part]
    assert found == value


def test_set_replaces_all_members(file):
    changes = recipe.parse_changes(['members=[{backbone = "xception", size = [480, 640]}]'])
    changed = recipe.load_recipe(file, changes)
    assert changed.members == (MemberSettings(backbone="xception", size=(480, 640)),)


def test_the_last_set_counts_and_the_rest_stays(file):
    changed = recipe.load_recipe(file, recipe.parse_changes(["seed=1", "seed=2"]))
    assert changed == recipe.load_recipe(file).model_copy(update={"seed": 2})


def test_set_is_applied_in_the_order_of_the_last_changes(file):
    members = 'members=[{backbone = "xception", size = [480, 640]}]'
    changes = recipe.parse_changes(["members.0.name=first", members, "members.0.name=last"])
    (member,) = recipe.load_recipe(file, changes).members
    assert (member.backbone, member.name) == ("xception", "last")


def test_changes_are_python_values_and_stay_as_they_are(file):
    changes = {"about": {"title": "Cars"}, "about.noun": "car", "members.0.batch_size": None}
    changed = recipe.load_recipe(file, changes)
    assert (changed.about.title, changed.about.noun) == ("Cars", "car")
    assert changed.members[0].batch_size is None
    assert changes["about"] == {"title": "Cars"}


# ---- what is wrong


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.epoch=5", ['unknown key "training.epoch"', 'did you mean "epochs"?', "head_epochs"]),
        ("trainng.epochs=5", ['unknown key "trainng"', 'did you mean "training"?', "seed, rounds, licence"]),
        ("epochs=5", ['unknown key "epochs"', 'did you mean "training.epochs"?']),
        ("backbone=xception", ['unknown key "backbone"', 'did you mean "members.0.backbone"?']),
        ("training.seed=1", ['unknown key "training.seed"', 'did you mean "seed"?']),
        ("members.0.bakbone=x", ['"members.0.bakbone"', 'did you mean "backbone"?', "size, name, head"]),
        ("photos.zzz=1", ['unknown key "photos.zzz"', "allowed are resize_mode, max_pixels, cache_gb"]),
        (
            "photos.resize_mode=stretch",
            ['photos.resize_mode = "stretch"', 'must be "pad", "squash" or "crop"'],
        ),
        ("photos.cache_gb=inf", ["photos.cache_gb = Infinity", "must be a finite number of at least 0"]),
        ("photos.num_workers=x", ['must be a whole number from 0 to 64 or "auto"']),
        ("training.epochs=0", ["training.epochs = 0: must be a whole number from 1 to 1000"]),
        ("training.epochs=many", ['training.epochs = "many": must be a whole number from 1 to 1000']),
        ("training.stages=[1, 0.5]", ["training", "stages must grow"]),
        ("training.stages=[]", ["training.stages = []", "at least 1 entry, each a number from 0 to 1"]),
        ("training.stages=[2]", ["training.stages.0 = 2: must be a number from 0 to 1"]),
        ("training.lr=0", ["training.lr = 0: must be a number above 0 and at most 10"]),
        ("training.tensorboard=3", ["training.tensorboard = 3: must be true or false"]),
        ("about.noum=car", ['unknown key "about.noum"', 'did you mean "noun"?']),
        ("about.ru.nuon=x", ['unknown key "about.ru.nuon"', 'did you mean "noun"?', "title, noun, plural"]),
        ("nuon=x", ['unknown key "nuon"', 'did you mean "about.noun"?']),
        ("about.accent=blue", ['about.accent = "blue"', 'a colour such as "#0b5cad"']),
        ("split.folds=1", ["split", "folds must be 0", "at least 2"]),
        ("seed=2147483648", ["seed = 2147483648", "must be a whole number from 0 to 2147483647"]),
        ("rounds=3", ["rounds = 3: must be a whole number from 1 to 2"]),
        ("training=5", ["training = 5: must be a table"]),
        ("ensemble.tta=flip", ['ensemble.tta = "flip"', "must be a list of entries, each"]),
        ("members=[]", ["recipe ", "give at least one of [[members]], or [search]"]),
        ("members.0.stages=[]", ["members.0.stages = []", "at least 1 entry, each a number from 0 to 1"]),
        ("members.0.stages=[1, 0.5]", ["members.0.stages: stages must grow"]),
        ("members.0.stages=[2]", ["members.0.stages.0 = 2: must be a number from 0 to 1"]),
        ("licence=gpl", ['licence = "gpl"', 'must be "permissive" or "any"']),
        ("license=any", ['unknown key "license"', 'did you mean "licence"?']),
        (
            "search.licence=any",
            ['unknown key "search.licence": did you mean "licence"? this table has no keys'],
        ),
        ("search=1", ["search = 1: must be a table"]),
        ("members.0.size=[64]", ["members.0.size.1 is missing", "a whole number from 32 to 2048"]),
        ("members.0.size=[16, 64]", ["members.0.size.0 = 16", "a whole number from 32 to 2048"]),
        ("members.0.name=..", ['members.0.name = ".."', "not ending in a dot"]),
        ("members.0.name=a/b", ['members.0.name = "a/b"', "letters, digits"]),
        ("members.0.backbone=", ["members.0.backbone"]),
        ('members.0.backbone="a\\nb"', ["members.0.backbone"]),
        ("members.0.name=mean", ["members.0: ", 'cannot be called "mean"', "files of the run"]),
        ("members.0.backbone=timm/Blends", ['cannot be called "Blends"']),
        ("members.0.name=днс", ['two members are called "днс"']),
        ("members.2.name=x", ["--set members.2.name", '"2" is not one of 0 to 1']),
        ("members.²=1", ["--set members.²", "is not one of 0 to 1"]),
        ("members.name=x", ["--set members.name", '"name" is not one of 0 to 1']),
        ("seed.x=1", ["--set seed.x", "no table"]),
        ("photos.resize_mode.x=1", ["--set photos.resize_mode.x", "no table"]),
        ("photos.resize_mode.x.y=1", ["--set photos.resize_mode.x.y", "no table"]),
        ("seed", ["--set seed", "write key=value"]),
        ("=5", ['unknown key ""']),
    ],
)
def test_a_wrong_change_is_named(file, change, words):
    message = error_line(file, change)
    for word in words:
        assert word in message


def test_one_wrong_member_is_no_missing_member(file):
    assert "at least 1" not in error_line(file, "members=[{}]")


@pytest.mark.parametrize("name", ["quik", "quick.tml"])
def test_a_mistyped_recipe_gets_the_nearest_name(name):
    assert f'no recipe "{name}"; did you mean "quick"?' in error_line(name)


def test_nothing_of_pydantic_is_in_a_message(file):
    changes = [
        "seed=x",
        "photos.resize_mode=1",
        "training.stages=5",
        "about.title=5",
        "members.0.batch_size=x",
    ]
    message = error_line(file, *changes)
    assert "Input should" not in message
    assert message.count(": must be ") == len(changes)


def test_several_faults_stand_in_one_line(file):
    message = error_line(file, "rounds=3", "photos.resize_mode=stretch")
    assert "rounds" in message
    assert "photos.resize_mode" in message


def test_a_recipe_needs_members(tmp_path):
    (tmp_path / "empty.toml").write_text("")
    assert "give at least one of [[members]], or [search]" in error_line(str(tmp_path / "empty.toml"))
    (tmp_path / "search.toml").write_text("[search]\n")
    assert recipe.load_recipe(str(tmp_path / "search.toml")).members == ()


def test_broken_toml_is_named_with_its_place(tmp_path):
    (tmp_path / "broken.toml").write_text("seed = 1\nrounds 2\n")
    message = error_line(str(tmp_path / "broken.toml"))
    assert "broken.toml is not valid TOML" in message
    assert "line 2" in message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_recipe_as_windows_writes_it(tmp_path, file, encoding):
    path = tmp_path / "windows.toml"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path.write_text(mark + TOML, encoding=encoding, newline="\r\n")
    assert recipe.load_recipe(str(path)) == recipe.load_recipe(file)


@pytest.mark.parametrize("content", [b"\xff\xff", "# днс".encode("cp1251"), b"\xff\xfe\x00"])
def test_a_recipe_that_is_not_in_utf_8(tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    assert "is not in UTF-8" in error_line(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("is_folder", [True, False])
def test_neither_a_recipe_nor_a_file(tmp_path, is_folder):
    path = tmp_path / "quik"
    if is_folder:
        path.mkdir()
    message = error_line(str(path))
    assert f'no recipe "{path}"' in message
    for name in recipe.builtin_recipes():
        assert name in message


PARTS = ("", "seed", "photos", "resize_mode", "training", "stages", "members", "0", "9", "-1", "size", "x")
KEYS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(".".join)
VALUES = st.text(max_size=10) | some("", "1", "-1e999", "[]", "[[]]", "{}", "[{}]", "nan", "00:00:00")


@settings(max_examples=200, deadline=None)
@given(KEYS, VALUES)
def test_no_change_ends_in_a_traceback(tmp_path_factory, key, value):
    file = tmp_path_factory.getbasetemp() / "whatever.toml"
    file.write_text(TOML, encoding="utf-8")
    with suppress(FovsfeError):
        recipe.load_recipe(str(file), recipe.parse_changes([f"{key}={value}"]))


@pytest.mark.parametrize(
    ("changes", "frozen", "refitted"),
    [
        ({"members.0.stages": [0]}, True, True),
        ({"training.stages": [0]}, True, True),
        ({"training.stages": [0], "members.0.stages": [0, 1]}, False, False),
        ({}, False, False),
        ({"members.0.stages": [0], "members.0.head": "hidden"}, False, False),
        ({"members.0.stages": [0], "members.0.head": "root"}, True, True),
        ({"members.0.stages": [0], "rounds": 2}, True, False),  # which would learn from its labels
    ],
)
def test_a_member_of_a_head_alone_is_frozen(file, changes, frozen, refitted):
    read = recipe.load_recipe(file, changes)
    assert read.is_frozen(read.members[0]) == frozen
    assert read.is_refitted(read.members[0]) == refitted


def test_no_member_can_be_named_like_a_blend():
    assert set(BLEND_KINDS) <= RESERVED_NAMES  # they name files in the same folder
