"""What a model costs, roughly: enough to say which of two targets is the cheaper."""

from ai_proxy.core.catalog import Price

# Calls read more than they write. Which share exactly hardly ever changes the order of two models.
_READ = 0.75
_TOKENS = 1_000_000


def blended(price: Price) -> float:
    """Dollars for a million tokens, read and written."""
    return _READ * price.input + (1 - _READ) * price.output


def list_price(provider: str, model: str) -> float | None:
    """The same from the tables of `genai-prices`, as of now. None for what they do not know.

    They are loaded with the first question, which takes a third of a second: ask at start.
    """
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    read = int(_READ * _TOKENS)
    usage = Usage(input_tokens=read, output_tokens=_TOKENS - read)
    try:
        return float(calc_price(usage, model_ref=model, provider_id=provider).total_price)
    except LookupError:
        return None
