import pytest

from dealrec_core.coreset import methods
from dealrec_core.errors import SettingsError


def test_every_method_has_its_needs_and_every_need_a_source():
    assert methods.NEEDS.keys() == methods.METHODS.keys()
    for name in methods.METHODS:
        given = {feature for source in methods.sources(name) for feature in methods.SOURCES[source]}
        assert given >= set(methods.NEEDS[name])


def test_a_source_is_named_once_though_two_features_come_from_it():
    assert methods.sources("recranker") == ("user", "traits")
    assert methods.sources("random") == ()


def test_an_unknown_method_names_those_there_are():
    with pytest.raises(SettingsError, match="no selection method 'best'; there are dealrec, "):
        methods.method("best")
