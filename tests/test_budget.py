import pytest

from pipeline.budget import events_per_hour, hours_in_words, rate_in_words


@pytest.mark.parametrize(
    ("text", "per_hour"),
    [
        ("1/day", 1 / 24),
        ("1/week", 1 / 168),
        ("2/hour", 2.0),
        ("1/4h", 0.25),
        (" 3 / 2 days ", 3 / 48),
        ("0.5/h", 0.5),
        ("3600/hour", 3600.0),
        ("1/52weeks", 1 / 8736),
    ],
)
def test_a_budget_is_a_number_of_events_in_a_time(text, per_hour):
    assert events_per_hour(text) == per_hour


@pytest.mark.parametrize(
    "text",
    ["", "1", "day", "1/", "0/day", "-1/day", "1/0days", "1/year", "1/53weeks", "2/s", "3601/hour", "1e3/h", "٣/day"],
)
def test_what_is_no_budget_is_refused_in_one_line_with_examples(text):
    with pytest.raises(ValueError, match=r"^expected a number of events in a time.*'1/day'.*, got ") as raised:
        events_per_hour(text + "9" * 500 if text == "1/" else text)
    assert len(str(raised.value)) < 220


def test_rates_and_hours_are_said_as_people_say_them():
    said = [rate_in_words(rate) for rate in (7.5, 250.0, 0.25, 1 / 24, 1 / 168, 1 / 1000)]
    assert said == ["7.5 per hour", "250 per hour", "6 per day", "1 per day", "1 per week", "0.17 per week"]
    assert [hours_in_words(hours) for hours in (0.001, 0.4, 71.6, 480.0)] == ["4 s", "24 min", "72 h", "20 days"]
