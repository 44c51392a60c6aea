from hypothesis import given
from hypothesis import strategies as st

from pipeline.redaction import redact

SECRET = st.text(
    alphabet=st.characters(codec="ascii", exclude_characters=" \t\n\r\x0b\x0c'\"<>@\x1c\x1d\x1e\x1f"), min_size=12
)


@given(SECRET)
def test_a_password_in_an_address_never_shows(password):
    shown = redact(f"[cam1] rtsp://admin:{password}@10.0.0.7:554/main failed")
    assert password not in shown
    assert "10.0.0.7:554/main" in shown


def test_an_at_sign_in_a_password_hides_all_of_it():
    assert redact("redis://:p@ss@host:6379/0") == "redis://***@host:6379/0"


def test_secret_query_values_are_hidden_and_others_stay():
    assert redact("http://h/cam?channel=1&token=abc&x=2") == "http://h/cam?channel=1&token=***&x=2"


def test_text_without_addresses_is_unchanged():
    assert redact("frame 3 of gate@night is dark") == "frame 3 of gate@night is dark"
