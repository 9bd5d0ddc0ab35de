"""What is known of prices."""

import pytest

from ai_proxy.core.catalog import Price
from ai_proxy.gateway.prices import blended, list_price


def test_a_price_is_mostly_that_of_reading():
    assert blended(Price(input=1, output=5)) == 2


@pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-4o-mini"), ("gemini", "gemini-2.5-flash")])
def test_well_known_models_have_a_list_price(provider, model):
    price = list_price(provider, model)

    assert price is not None
    assert 0 < price < 100


def test_a_small_model_costs_less_than_a_large_one():
    small, large = list_price("openai", "gpt-4o-mini"), list_price("openai", "gpt-4o")

    assert small is not None
    assert large is not None
    assert small < large


@pytest.mark.parametrize(("provider", "model"), [("openai", "no-such-model"), ("my-own-server", "gpt-4o")])
def test_what_nobody_lists_has_no_price(provider, model):
    assert list_price(provider, model) is None
