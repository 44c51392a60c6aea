import pytest

from pipeline.sinks.kinds import parse_sink, settings_class, sink_kinds


@pytest.mark.parametrize("kind", sink_kinds())
def test_a_kind_of_sink_is_one_module_whose_settings_bear_its_name(kind):
    settings = settings_class(kind)
    assert settings.__module__ == f"pipeline.sinks.to_{kind}"
    assert settings.model_fields["kind"].default == kind


def test_the_webhook_is_one_and_what_is_no_kind_is_answered_with_those_that_are():
    assert "webhook" in sink_kinds()
    with pytest.raises(ValueError, match=r"expected a kind that is one of .*webhook.*, got 'os'"):
        parse_sink({"kind": "os"})
