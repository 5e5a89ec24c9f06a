"""report.templating: figures read well."""

from fovsfe.report.templating import format_duration, format_number, format_percent

NBSP = "\xa0"


def test_durations_read_well():
    assert [format_duration(seconds).replace(NBSP, " ") for seconds in (0.2, 59.6, 252.3, 7261)] == [
        "0 s",
        "1 min",
        "4 min 12 s",
        "2 h 1 min",
    ]


def test_shares_and_numbers_read_well():
    assert [format_percent(share) for share in (0.8421, 1.0, None)] == ["84.2%", "100.0%", "–"]
    assert [format_number(1500), format_number(0.12345, 3), format_number(None)] == ["1,500", "0.123", "–"]
