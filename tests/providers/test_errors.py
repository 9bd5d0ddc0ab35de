"""What a provider's refusal becomes."""

import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ContentFiltered,
    ContextLengthExceeded,
    ProviderAuth,
    ProviderQuota,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.errors import clean, parse_retry_after, rejection

A_DAY = 86_400.0
FAULT = ProviderFault("The words of the provider.")
OUT_OF_QUOTA = ProviderFault("no money", code="insufficient_quota")


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Tokyo"])
def zone(request):
    """Puts this process into a time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("upstream_status", "fault", "kind", "status"),
    [
        (200, FAULT, BadUpstreamResponse, 502),
        (204, FAULT, BadUpstreamResponse, 502),
        (302, FAULT, BadUpstreamResponse, 502),
        (400, FAULT, UpstreamRejected, 400),
        (401, FAULT, ProviderAuth, 502),
        (402, FAULT, ProviderQuota, 502),
        (403, FAULT, ProviderAuth, 502),
        (404, FAULT, UpstreamRejected, 404),
        (405, FAULT, UpstreamRejected, 405),
        (407, FAULT, BadUpstreamResponse, 502),
        (408, FAULT, UpstreamTimeout, 504),
        (409, FAULT, UpstreamRejected, 409),
        (413, FAULT, UpstreamRejected, 413),
        (414, FAULT, UpstreamRejected, 414),
        (422, FAULT, UpstreamRejected, 422),
        (424, FAULT, UpstreamRejected, 424),
        (431, FAULT, UpstreamRejected, 431),
        (451, FAULT, UpstreamRejected, 451),
        (499, FAULT, UpstreamRejected, 499),
        (429, FAULT, UpstreamRateLimited, 429),
        (429, OUT_OF_QUOTA, ProviderQuota, 502),
        (500, FAULT, BadUpstreamResponse, 502),
        (500, OUT_OF_QUOTA, BadUpstreamResponse, 502),
        (502, FAULT, BadUpstreamResponse, 502),
        (503, FAULT, UpstreamOverloaded, 503),
        (504, FAULT, BadUpstreamResponse, 502),
        (529, FAULT, UpstreamOverloaded, 503),
    ],
)
def test_a_status_becomes_an_error_of_ours(upstream_status, fault, kind, status):
    error = rejection("acme", upstream_status, fault)

    assert type(error) is kind
    assert (error.status, error.provider, error.upstream_status) == (status, "acme", upstream_status)
    assert error.message.startswith("acme: ")


@pytest.mark.parametrize("status", [200, 302, 401, 402, 403, 407, 408, 429, 500, 503])
def test_the_words_of_the_provider_are_shown_only_when_the_request_is_at_fault(status):
    error = rejection("acme", status, FAULT)

    assert FAULT.message not in error.message


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "7", 7),
        (429, None, 1),
        (429, "soon", 1),
        (503, "7", 7),
        (503, "0", 0),
        (503, None, 5),
        (529, "soon", 5),
        (500, "7", 1),
        (401, "7", None),
        (402, "7", None),
        (400, "7", None),
    ],
)
def test_a_wait_is_told_where_waiting_helps(status, header, seconds):
    assert rejection("acme", status, FAULT, retry_after=header).retry_after == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("7.5", 7.5),
        ("1e3", 1000),
        ("86400", A_DAY),
        ("86401", A_DAY),
        ("9" * 400, None),
        ("-1", None),
        ("-0", 0),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("", None),
        ("soon", None),
        ("7 seconds", None),
        ("0x10", None),
        (None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Sun Nov  6 08:49:37 1994", 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", A_DAY),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_with_care(header, seconds):
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda date: format_datetime(date, usegmt=True), id="as it should be"),
        pytest.param(lambda date: date.strftime("%A, %d-%b-%y %H:%M:%S GMT"), id="as RFC 850 has it"),
        pytest.param(lambda date: date.strftime("%a %b %d %H:%M:%S %Y"), id="as asctime has it"),
        pytest.param(lambda date: date.strftime("%a, %d %b %Y %H:%M:%S -0000"), id="without a zone"),
        pytest.param(lambda date: (date + timedelta(hours=2)).strftime("%d %b %Y %H:%M:%S +0200"), id="elsewhere"),
    ],
)
@pytest.mark.usefixtures("zone")
def test_a_date_becomes_seconds_wherever_we_are(write):
    header = write(datetime.now(UTC) + timedelta(seconds=100))

    seconds = parse_retry_after(header)

    assert seconds is not None
    assert 95 < seconds <= 100


WORDS = st.sampled_from(["Wed, ", "21 ", "Oct ", "2015 ", "07:28:00 ", "GMT", "-", "+0200", "99999", ":", "\x00", "٣"])


@given(st.text() | st.lists(WORDS).map("".join) | st.floats().map(str) | st.integers().map(str))
def test_no_retry_after_is_outside_its_bounds(header):
    seconds = parse_retry_after(header)

    assert seconds is None or 0 <= seconds <= A_DAY


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
        (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
        (400, "prompt is too long: 209303 tokens > 200000 maximum"),
        (400, "input length and `max_tokens` exceed context limit: 174167 + 64000 > 200000, decrease input length"),
        (400, "Input is too long for requested model."),
        (400, "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."),
        (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
        (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
        (400, "too many tokens: size limit exceeded by 19296 tokens. Try using shorter or fewer inputs."),
        (400, "Please reduce the length of the messages or completion."),
        (400, "length of prompt_tokens (163280) must be less than max_seq_len (32768)."),
        (400, "the request exceeds the available context size. try increasing the context size"),
        (413, "Input length (265330) exceeds model's maximum context length (262144)."),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens"),
    ],
)
def test_a_request_that_is_too_long_is_known_by_the_words_of_many_providers(status, message):
    error = rejection("openai", status, ProviderFault(message, code="invalid_request_error"))

    assert type(error) is ContextLengthExceeded
    assert (error.status, error.code, error.upstream_status) == (400, "context_length_exceeded", status)
    assert message[:30] in error.message


@pytest.mark.parametrize("code", ["context_length_exceeded", "exceed_context_size_error"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_request_that_is_too_long_is_known_by_its_code(status, code):
    error = rejection("openai", status, ProviderFault("", code=code))

    assert type(error) is ContextLengthExceeded
    assert error.status == 400


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, ProviderFault("The response was filtered", code="content_filter")),
        (400, ProviderFault("The prompt triggered our content management policy.")),
        (400, ProviderFault("Output blocked by content filtering policy")),
        (403, ProviderFault('openai/gpt-4 requires moderation. Your input was flagged for "violence".')),
        (403, ProviderFault("Content violates usage guidelines.")),
    ],
)
def test_what_a_content_filter_refuses_is_no_doubt_about_any_key(status, fault):
    error = rejection("openrouter", status, fault)

    assert type(error) is ContentFiltered
    assert (error.status, error.code, error.upstream_status) == (400, "content_filter", status)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "api key not valid is not one of ['system', 'assistant', 'user']", UpstreamRejected),
        (400, "API key not valid. Please pass a valid API key.", UpstreamRejected),
        (400, "max_tokens is too large: 99999. This model supports at most 16384.", UpstreamRejected),
        (400, "Invalid value for 'content': expected a string.", UpstreamRejected),
        (404, "The prompt is too long", UpstreamRejected),
        (429, "Too many tokens, please wait before trying again.", UpstreamRateLimited),
        (403, "You may not use this model.", ProviderAuth),
        (503, "maximum context length", UpstreamOverloaded),
    ],
)
def test_other_words_are_not_mistaken_for_those(status, message, kind):
    assert type(rejection("gemini", status, ProviderFault(message))) is kind


def test_a_key_that_google_finds_invalid_is_known_by_its_code_alone():
    error = rejection("gemini", 400, ProviderFault("API key expired. Please renew it.", code="API_KEY_INVALID"))

    assert type(error) is ProviderAuth


WORDS_OF_REFUSALS = st.sampled_from(
    [
        "api key not valid",
        "API key expired",
        "credit balance is too low",
        "insufficient_quota",
        "unauthorized",
        " ",
        "'",
    ]
)


@given(words=st.lists(WORDS_OF_REFUSALS).map("".join), status=st.sampled_from([400, 404, 413, 422]))
def test_no_words_in_a_refusal_speak_against_our_key(words, status):
    error = rejection("acme", status, ProviderFault(words, code="invalid_request_error"))

    assert isinstance(error, UpstreamRejected)


def test_an_overloaded_provider_that_does_not_say_how_long_makes_clients_wait_all_the_same():
    error = rejection("openai", 503, FAULT)

    assert (error.wait, error.retry_after) == (None, 5.0)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_the_wait_that_a_provider_asks_for_is_kept(status):
    error = rejection("openai", status, FAULT, retry_after="7")

    assert (error.wait, error.retry_after) == (7.0, 7.0)


@given(st.text(alphabet="exceds context length", max_size=3000))
def test_no_message_takes_long_to_be_understood(message):
    started = time.perf_counter()

    rejection("openai", 400, ProviderFault(message))

    assert time.perf_counter() - started < 0.2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("  spaces  ", "spaces"),
        ("two\nlines\r\n", "two lines"),
        ("\x1b[31mred\x00\x9b", "[31mred"),
        ("Incorrect API key provided: sk-abc***wxyz1234.", "Incorrect API key provided: sk-abc***wxyz1234."),
        ("key sk-0123456789abcdef", "key ***"),
        ("key sk-proj-0123_456-789", "key ***"),
        ("key sk_live_0123456789", "key ***"),
        ("key aip-0123456789abcdef", "key ***"),
        ("Authorization: Bearer eyJhbGciOi.x.y", "Authorization: Bearer ***"),
        ("authorization: bearer abc", "authorization: bearer ***"),
        ("at https://user:pass@host/path", "at https://***@host/path"),
        ("at https://host/path?x=1", "at https://host/path?x=1"),
        ("ask-me-anything", "ask-me-anything"),
        ("Grüße 世界 😀", "Grüße 世界 😀"),
    ],
)
def test_a_message_is_cleaned(text, shown):
    assert clean(text) == shown


@given(st.text(), st.text(alphabet="abcXYZ019_-", min_size=6), st.text())
def test_a_key_is_never_shown(before, key, after):
    secret = f"sk-{key}"

    assert secret not in clean(f"{before} {secret} {after}")


@given(st.text(alphabet=st.characters(), max_size=3000))
def test_a_message_is_short_and_without_control_characters(text):
    shown = clean(text)

    assert len(shown) <= 500
    assert re.search(r"[\x00-\x1f\x7f-\x9f]", shown) is None
