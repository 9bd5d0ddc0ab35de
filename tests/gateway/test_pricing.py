"""What calls cost."""

import json
import runpy
import subprocess
import sys
from datetime import UTC, datetime

import genai_prices
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.catalog import Price
from ai_proxy.core.types import Usage
from ai_proxy.dialects import converse_answers, gemini_answers, messages_readers, responses_readers
from ai_proxy.dialects.chat import read_usage
from ai_proxy.dialects.usage import counted
from ai_proxy.gateway.pricing import (
    FREE,
    Prices,
    PriceTag,
    Rates,
    Tier,
    as_json,
    blended,
    cost,
    list_rates,
    rates_by,
    reckoned,
    worst_cost,
)

GPT_4O = Price(input=2.5, output=10, cache_read=1.25)
GPT_AUDIO = Price(input=2.5, output=10, input_audio=40, output_audio=80)
SONNET = Price(input=3, output=15, cache_read=0.3, cache_write=3.75)
DEEPSEEK = Price(input=0.27, output=1.1, cache_read=0.07)
GEMINI = Price(input=0.3, output=2.5, cache_read=0.03, input_audio=1)
GROK = Price(input=3, output=15, cache_read=0.75)
SONAR = Price(input=1, output=1, request=0.005)


def listed(preset: str, model: str) -> Rates | None:
    """The list's rates as of now."""
    return Prices().tag(preset, model).rates


def of_chat(usage):
    return read_usage(msgspec.Raw(json.dumps(usage).encode()))


def of_responses(usage):
    body = {"object": "response", "status": "completed", "output": [], "usage": usage}
    return responses_readers.read_answer(json.dumps(body).encode()).usage


def of_messages(usage):
    body = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": usage}
    return messages_readers.read_answer(json.dumps(body).encode()).usage


def of_gemini(usage):
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    body = {"candidates": [candidate], "usageMetadata": usage}
    return of_chat(gemini_answers.to_completion(body, model="m", identifier="i", created=0)["usage"])


def of_converse(usage):
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    body = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}
    return of_chat(converse_answers.to_completion(body, model="m", identifier="i", created=0)["usage"])


# What providers count, in the words of their documentation, and what it costs by their price lists, worked out by hand:
# the comment has the sum in millionths of a dollar.
BILLS = {
    # https://platform.openai.com/docs/guides/prompt-caching: 86 · 2.5 + 1920 · 1.25 + 300 · 10
    "openai, cached": (
        *(of_chat, GPT_4O, 5_615_000),
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
        },
    ),
    # https://platform.openai.com/docs/guides/reasoning: thoughts are among what is written. 75 · 2.5 + 1186 · 10
    "openai, reasoning": (
        *(of_responses, GPT_4O, 12_047_500),
        {
            "input_tokens": 75,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024},
            "total_tokens": 1261,
        },
    ),
    # https://platform.openai.com/docs/guides/audio: 20 · 2.5 + 90 · 40 + 50 · 10 + 150 · 80
    "openai, audio": (
        *(of_chat, GPT_AUDIO, 16_150_000),
        {
            "prompt_tokens": 110,
            "completion_tokens": 200,
            "total_tokens": 310,
            "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 20, "audio_tokens": 90},
            "completion_tokens_details": {"text_tokens": 50, "audio_tokens": 150},
        },
    ),
    # https://platform.claude.com/docs/en/build-with-claude/prompt-caching: 21 · 3 + 188086 · 3.75 + 393 · 15
    "anthropic, into the cache": (
        *(of_messages, SONNET, 711_280_500),
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 188_086,
            "cache_read_input_tokens": 0,
            "output_tokens": 393,
        },
    ),
    # The same: 21 · 3 + 188086 · 0.3 + 393 · 15
    "anthropic, from the cache": (
        *(of_messages, SONNET, 62_383_800),
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 188_086,
            "output_tokens": 393,
        },
    ),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html: 8 · 3 + 100 · 0.3 + 20 · 3.75 + 7 · 15
    "bedrock": (
        *(of_converse, SONNET, 234_000),
        {"inputTokens": 8, "outputTokens": 7, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20},
    ),
    # https://api-docs.deepseek.com/guides/kv_cache: 36 · 0.27 + 64 · 0.07 + 50 · 1.1
    "deepseek": (
        *(of_chat, DEEPSEEK, 69_200),
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
    ),
    # https://ai.google.dev/gemini-api/docs/thinking: 64 · 0.3 + 200 · 0.03 + 130 · 2.5
    "gemini": (
        *(of_gemini, GEMINI, 350_200),
        {
            "promptTokenCount": 264,
            "cachedContentTokenCount": 200,
            "candidatesTokenCount": 30,
            "thoughtsTokenCount": 100,
            "totalTokenCount": 394,
        },
    ),
    # https://ai.google.dev/gemini-api/docs/tokens: 10 · 0.3 + 320 · 1 + 4 · 2.5
    "gemini, audio": (
        *(of_gemini, GEMINI, 333_000),
        {
            "promptTokenCount": 330,
            "candidatesTokenCount": 4,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 10},
                {"modality": "AUDIO", "tokenCount": 320},
            ],
        },
    ),
    # https://docs.x.ai/docs/guides/reasoning: thoughts are in the total only. 32 · 3 + (9 + 101) · 15
    "xai, without its own word": (
        *(of_chat, GROK, 1_746_000),
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 142,
            "completion_tokens_details": {"reasoning_tokens": 101},
        },
    ),
    # https://docs.x.ai/developers/cost-tracking: 37756000 ticks are $0.0037756
    "xai, by its own word": (
        *(of_responses, GROK, 3_775_600),
        {"input_tokens": 32, "output_tokens": 9, "cost_in_usd_ticks": 37_756_000},
    ),
    # https://openrouter.ai/docs/use-cases/usage-accounting
    "openrouter, by its own word": (
        *(of_chat, GPT_4O, 950_000_000),
        {
            "prompt_tokens": 194,
            "completion_tokens": 2,
            "total_tokens": 196,
            "cost": 0.95,
            "cost_details": {"upstream_inference_cost": 19},
        },
    ),
    # The same: with a key of one's own, the model's provider sends a bill too.
    "openrouter, by its own word and that of the provider": (
        *(of_chat, GPT_4O, 19_950_000_000),
        {
            "prompt_tokens": 194,
            "completion_tokens": 2,
            "cost": 0.95,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 19},
        },
    ),
    # https://docs.perplexity.ai/api-reference/chat-completions-post
    "perplexity, by its own word": (
        *(of_chat, SONAR, 6_009_000),
        {"prompt_tokens": 7, "completion_tokens": 1002, "cost": {"request_cost": 0.005, "total_cost": 0.006009}},
    ),
    # https://docs.perplexity.ai/getting-started/pricing: 7 · 1 + 1002 · 1 + 5000
    "perplexity, without its own word": (
        *(of_chat, SONAR, 6_009_000),
        {"prompt_tokens": 7, "completion_tokens": 1002, "total_tokens": 1009},
    ),
}


@pytest.mark.parametrize("name", BILLS)
def test_a_call_costs_what_its_provider_bills(name):
    read, price, expected, usage = BILLS[name]

    assert reckoned(rates_by(price), read(usage))[0] == expected


TOKENS = st.integers(0, 2**53)
ODD = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers() | TOKENS
PARTS = (
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "reasoning_tokens",
)
AMOUNTS = st.integers(0, 10**13)
TARIFF = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "input_audio", "output_audio")


@st.composite
def all_rates(draw):
    tiers = [
        Tier(above=draw(TOKENS), **{name: draw(AMOUNTS) for name in TARIFF}) for _ in range(draw(st.integers(0, 2)))
    ]
    tiers.sort(key=lambda tier: tier.above)
    prices = {name: draw(AMOUNTS) for name in TARIFF}
    return Rates(source="table", request=draw(AMOUNTS), tiers=tuple(tiers), **prices)


@st.composite
def usages(draw):
    return counted(draw(TOKENS), draw(TOKENS), {name: draw(ODD) for name in PARTS})


@given(usages())
def test_the_kinds_of_tokens_never_overlap(usage):
    read = (usage.cache_read_tokens, usage.cache_write_tokens, usage.input_audio_tokens)
    written = (usage.output_audio_tokens, usage.reasoning_tokens)

    assert min(*read, *written) >= 0
    assert sum(read) <= usage.input_tokens
    assert sum(written) <= usage.output_tokens


@given(all_rates(), usages())
def test_no_call_costs_less_than_nothing_or_more_than_the_worst(rates, usage):
    price = cost(rates, usage)

    assert rates.request <= price <= worst_cost(rates, usage.input_tokens, usage.output_tokens)


@given(all_rates(), usages(), st.integers(0, 10**6))
def test_more_tokens_written_never_cost_less(rates, usage, more):
    longer = msgspec.structs.replace(usage, output_tokens=usage.output_tokens + more)

    assert cost(rates, longer) >= cost(rates, usage)


@given(all_rates(), usages(), st.integers(0, 10**6))
def test_more_tokens_read_at_one_tariff_never_cost_less(rates, usage, more):
    flat = msgspec.structs.replace(rates, tiers=())
    longer = msgspec.structs.replace(usage, input_tokens=usage.input_tokens + more)

    assert cost(flat, longer) >= cost(flat, usage)


@given(all_rates(), TOKENS, TOKENS, TOKENS, TOKENS)
def test_the_worst_cost_grows_with_the_tokens(rates, read, written, more_read, more_written):
    least = worst_cost(rates, read, written)

    assert worst_cost(rates, read + more_read, written + more_written) >= least


def test_a_part_of_a_nano_dollar_is_rounded_up_once():
    rates = rates_by(Price(input=0.0001, output=0.0001))  # a tenth of a nano-dollar a token

    assert [cost(rates, Usage(1, 0)), cost(rates, Usage(5, 5)), cost(rates, Usage(6, 5))] == [1, 1, 2]


def test_classes_that_make_up_more_than_the_whole_cost_no_less_than_nothing():
    rates = rates_by(Price(input=1, output=1, cache_read=0, output_audio=0))

    assert cost(rates, Usage(1, 1, cache_read_tokens=10, output_audio_tokens=10)) == 0


def test_beyond_a_threshold_all_tokens_cost_the_other_price():
    short, long = Usage(200_000, 1000), Usage(200_001, 1000)

    rates = listed("anthropic", "claude-sonnet-4-5-20250929")

    assert cost(rates, short) == 200_000 * 3_000 + 1000 * 15_000
    assert cost(rates, long) == 200_001 * 6_000 + 1000 * 22_500


def test_what_the_cache_keeps_for_an_hour_costs_more():
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing"""
    usage = of_messages(
        {
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        }
    )

    rates = listed("anthropic", "claude-sonnet-4-5-20250929")

    assert cost(rates, usage) == 2048 * 3_000 + 1800 * 300 + 148 * 3_750 + 100 * 6_000 + 503 * 15_000
    assert cost(rates_by(SONNET), usage) == 2048 * 3_000 + 1800 * 300 + 248 * 3_750 + 503 * 15_000


def test_the_worst_is_that_of_the_dearest_tier_and_kind():
    rates = listed("anthropic", "claude-sonnet-4-5-20250929")

    assert worst_cost(rates, 1000, 10) == 1000 * 6_000 + 10 * 15_000
    assert worst_cost(rates, 200_001, 10) == 200_001 * 12_000 + 10 * 22_500


def at(*moment):
    return datetime(*moment, tzinfo=UTC).timestamp()


def test_a_price_with_a_date_holds_from_that_day():
    before = list_rates("anthropic", "claude-sonnet-4-6", at(2026, 3, 12, 23, 59))
    after = list_rates("anthropic", "claude-sonnet-4-6", at(2026, 3, 13))

    assert (len(before.tiers), len(after.tiers)) == (1, 0)


def test_a_price_by_the_time_of_day_holds_at_that_time():
    by_day, by_night = (list_rates("deepseek", "deepseek-chat", at(2026, 3, 1, hour)) for hour in (12, 20))

    assert by_day != by_night


def test_a_price_tag_asks_anew_when_the_price_may_have_changed():
    now = at(2026, 3, 1, 16, 29)
    asked = []
    tag = PriceTag(asked.append, lambda: now)

    first = [tag.rates, tag.rates]
    now = at(2026, 3, 1, 16, 30)
    second = [tag.rates, tag.rates]

    assert first + second == [None] * 4
    assert asked == [at(2026, 3, 1, 16, 29), at(2026, 3, 1, 16, 30)]


CHEAP, DEAR = Price(input=1, output=2), Price(input=10, output=20)


def test_the_operators_table_wins_over_the_target_and_the_target_over_the_list():
    prices = Prices({"openai/gpt-4o": CHEAP})

    assert prices.tag("openai", "gpt-4o", DEAR).rates == rates_by(CHEAP)
    assert prices.tag("openai", "gpt-4o-mini", DEAR).rates == rates_by(DEAR)
    assert prices.tag("openai", "gpt-4o-mini").rates.source == "list"


def test_the_table_knows_what_the_lists_do_not_and_prices_what_would_be_free():
    prices = Prices({"mine/llama": CHEAP, "ollama/llama": CHEAP}, {"mine": "", "ollama": "ollama"})

    assert prices.tag("mine", "llama").rates == rates_by(CHEAP)
    assert prices.tag("ollama", "llama").rates == rates_by(CHEAP)


def test_a_second_account_has_the_prices_of_its_preset():
    assert Prices(presets={"openai-eu": "openai"}).tag("openai-eu", "gpt-4o").rates == listed("openai", "gpt-4o")


@pytest.mark.parametrize("preset", ["mock", "ollama", "vllm", "lmstudio", "llamacpp"])
def test_what_runs_at_home_is_free(preset):
    assert listed(preset, "any") == FREE
    assert cost(FREE, Usage(10**9, 10**9)) == 0


@pytest.mark.parametrize(
    ("preset", "model", "expected"),
    [
        ("openai", "gpt-4o-2024-08-06", (2_500_000_000, 10_000_000_000)),
        ("openai", "text-embedding-3-small", (20_000_000, 0)),
        ("openai", "omni-moderation-latest", (0, 0)),
        ("anthropic", "claude-haiku-4-5", (1_000_000_000, 5_000_000_000)),
        ("gemini", "gemini-2.5-pro", (1_250_000_000, 10_000_000_000)),
        ("gemini-openai", "gemini-2.5-pro", (1_250_000_000, 10_000_000_000)),
        ("azure", "gpt-4o", (2_500_000_000, 10_000_000_000)),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", (3_300_000_000, 16_500_000_000)),
        ("groq", "openai/gpt-oss-120b", (150_000_000, 600_000_000)),
        ("fireworks", "accounts/fireworks/models/gpt-oss-120b", (150_000_000, 600_000_000)),
        ("cerebras", "gpt-oss-120b", (350_000_000, 750_000_000)),
        ("huggingface", "openai/gpt-oss-120b:cerebras", (350_000_000, 750_000_000)),
        ("openrouter", "anthropic/claude-sonnet-4.5", (3_000_000_000, 15_000_000_000)),
        ("openrouter", "openai/gpt-4o:nitro", (2_500_000_000, 10_000_000_000)),
        ("openrouter", "meta-llama/llama-3.3-70b-instruct:free", (0, 0)),
    ],
)
def test_models_are_found_in_the_lists_by_the_names_that_callers_use(preset, model, expected):
    rates = listed(preset, model)

    assert (rates.input, rates.output) == expected


@pytest.mark.parametrize(
    ("provider", "preset", "model"),
    [
        ("openai", "openai", "no-such-model"),
        ("openai", "openai", "x" * 10_000),
        ("openai", "openai", ""),
        ("openai", "openai", "whisper-1"),  # by the minute
        ("my-openai", "", "gpt-4o"),  # a name that only looks like a list's
        ("azure", "azure", "my-deployment"),
        ("huggingface", "huggingface", "openai/gpt-oss-120b"),  # whoever serves it
        ("nvidia", "nvidia", "openai/gpt-oss-120b"),
    ],
)
def test_what_nobody_lists_has_no_price(provider, preset, model):
    assert Prices(presets={provider: preset}).tag(provider, model).rates is None


def test_a_call_of_unknown_price_has_no_cost_unless_its_provider_says_it():
    assert reckoned(None, Usage(1, 1)) == (None, None)
    assert reckoned(None, Usage(1, 1, cost=7)) == (7, '{"source":"provider"}')


def test_what_a_call_was_reckoned_by_can_be_read_again():
    rates = listed("anthropic", "claude-sonnet-4-5-20250929")

    amount, text = reckoned(rates, Usage(1, 1))

    assert amount == 18_000
    assert msgspec.json.decode(text, type=Rates) == rates
    assert as_json(rates) is text


def test_a_price_is_mostly_that_of_reading():
    assert blended(rates_by(Price(input=1, output=5))) == 2_000_000_000


def test_the_lists_are_not_loaded_for_what_is_free():
    code = (
        "import sys; from ai_proxy.gateway.pricing import Prices; Prices().tag('mock', 'mock').rates; "
        "print('genai_prices' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


AZURE_FALLS_BACK_ON = {"openai", "anthropic", "deepseek", "x-ai", "moonshotai"}


def test_of_the_lists_only_those_in_use_stay_in_memory():
    code = (
        "import gc, sys; from ai_proxy.gateway.price_lists import find, load; load(['groq']); load(['azure', 'mine']); "
        "find('xai', 'grok-4', 0); from genai_prices.types import Provider; "
        "print('genai_prices.data' in sys.modules, *{x.id for x in gc.get_objects() if isinstance(x, Provider)})"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    imported, *kept = done.stdout.split()
    assert imported == "False"
    assert {"groq", "azure", "openai", "x-ai"} <= set(kept) <= {"groq", "azure", "x-ai", *AZURE_FALLS_BACK_ON}


def _listed():
    names = {"google": "gemini", "x-ai": "xai", "aws": "bedrock"}
    # Not imported, as in `price_lists`: to run a module beside one that is imported is warned of.
    for provider in runpy.run_module("genai_prices.data")["providers"]:
        if not provider.id.startswith("huggingface"):
            yield from ((names.get(provider.id, provider.id), provider, model) for model in provider.models)


@pytest.mark.parametrize("read", [1000, 250_001, 1_000_001])
def test_the_whole_list_is_read_as_its_authors_read_it(read):
    usage = Usage(read, 700, cache_read_tokens=100, cache_write_tokens=50)
    theirs = genai_prices.Usage(input_tokens=read, output_tokens=700, cache_read_tokens=100, cache_write_tokens=50)
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    compared = 0

    for preset, provider, model in _listed():
        rates = list_rates(preset, model.id, now.timestamp())
        known = provider.find_model(model.id)
        if rates is None or rates == FREE or known is None:
            continue
        bill = known.calc_price(theirs, provider, genai_request_timestamp=now).total_price
        assert cost(rates, usage) == pytest.approx(float(bill) * 10**9, abs=1.01, rel=1e-12), (preset, model.id)
        compared += 1

    assert compared > 1000


def test_a_count_that_cannot_be_true_costs_no_more_than_a_record_can_hold():
    dear = Rates(source="table", input=0, output=10**12, cache_read=0, cache_write=0, input_audio=0, output_audio=0)

    assert cost(dear, Usage(0, 2**53)) == 10**15
