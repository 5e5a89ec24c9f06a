"""cli.suggestions: the nearest word to a mistyped one."""

from fovsfe.cli.suggestions import did_you_mean


def test_the_nearest_word_is_suggested_if_one_is_near():
    assert did_you_mean("chek", ["train", "check", "shard"]) == 'did you mean "check"? '
    assert did_you_mean("predict", ["train", "check"]) == ""
    assert did_you_mean("", []) == ""
