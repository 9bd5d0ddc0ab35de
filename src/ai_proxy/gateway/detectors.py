"""What is known to look like a secret or like somebody's own: each a regular expression, and a check of what it found.

The expressions read no part of a text more than a few times, whatever the text is: what repeats is possessive or
bounded, and none begins in the middle of what it would read through. `re` holds the interpreter's lock as long as it
searches, so a long text is searched in pieces: others run in between.
"""

import re
from collections.abc import Callable, Mapping
from typing import Protocol

PIECE = 65_536  # characters that are searched in one go
_LONGEST = 1024  # characters that an expression reads at most, those around what it finds included

# Where what was found ends, None if it is not what it looks like.
Check = Callable[[re.Match[str]], int | None]


class Detector(Protocol):
    """Takes a text, and what is to stand there in place of all that is found."""

    def __call__(self, text: str, replacement: str) -> str: ...


# How they begin: `_secret_end` finds where they end, however long they are.
_SECRETS = re.compile(
    r"""
    (?<![\w-])(?:
        sk-[\w-]{16} |                                         # OpenAI, Anthropic and those that do as they do
        (?:gh[opusr]|github_pat)_\w{20} |                      # GitHub
        glpat-[\w-]{20} |                                      # GitLab
        (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9]) |                # Amazon
        AIza[\w-]{35}(?![\w-]) |                               # Google
        xox[a-z]-[\w-]{10} | xapp-[\w-]{10} |                  # Slack
        (?:sk|rk)_(?:live|test)_\w{16} | whsec_[\w+/=]{16} |   # Stripe, webhooks
        hf_\w{30} | gsk_\w{30} | npm_\w{30} | pypi-[\w-]{30} |
        aip_[\w-]{20} |                                        # ours
        eyJ[\w-]{10}                                           # JSON Web Tokens
    )
    | -----BEGIN[A-Z0-9 ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----
    """,
    re.VERBOSE | re.ASCII,
)
_OF_LETTERS = ("gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github", "sk_", "rk_", "hf_", "gsk_", "npm_")
_OF_ONE_LENGTH = ("AKIA", "ASIA", "AIza")
_LETTERS_ONLY = re.compile(r"\w*+", re.ASCII)
_WITH_DASHES = re.compile(r"[\w-]*+", re.ASCII)
_OF_BASE64 = re.compile(r"[\w+/=]*+", re.ASCII)
_END_OF_PEM = re.compile(r"-----END[A-Z0-9 ]{0,60}-----")
_OF_SECRETS = (
    *("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "AKIA", "ASIA", "AIza", "xox", "xapp-"),
    *("_live_", "_test_", "whsec_", "hf_", "gsk_", "npm_", "pypi-", "aip_", "eyJ", "PRIVATE KEY"),
)
_EMAILS = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,10}[\w-]{2,63}")
# Those that follow look behind only when the first character was found, which is ten times as fast.
_PHONES = (
    # With the country's code: +7 (495) 123-45-67
    re.compile(r"\+(?<![\w+]\+)[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)", re.ASCII),
    # 8 (495) 123-45-67
    re.compile(r"8(?<![\w.+-]8)[ -]?\(?\d{3}\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2}(?!\d)", re.ASCII),
    # (212) 555-0123
    re.compile(r"\((?<!\w\()\d{3}\) ?\d{3}[ .-]\d{4}(?!\d)", re.ASCII),
    # 212-555-0123
    re.compile(r"[1-9](?<![\w.+-].)(?:(?<=1)[ .-]\d)?\d\d[ .-]\d{3}[ .-]\d{4}(?!\d)", re.ASCII),
)
_CARDS = re.compile(
    r"[2-6](?<!\d.)(?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{4}|\d{3}([ -])\d{6}\2\d{4,5})(?!\d)", re.ASCII
)
_IBANS = re.compile(r"[A-Z](?<![A-Za-z0-9].)[A-Z]\d\d(?: ?[A-Z0-9]){11,30}+", re.ASCII)

# https://www.swift.com/standards/data-standards/iban-international-bank-account-number
_IBANS_OF_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
    "YE30"
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBANS_OF_COUNTRIES.split()}
_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))  # and the digits of that added up
_LETTERS = {ord("A") + number: str(10 + number) for number in range(26)}


def _secret_end(match: re.Match[str]) -> int | None:
    found, text, end = match[0], match.string, match.end()
    if found.startswith("-----"):
        return _pem_end(text, end)
    if found.startswith("eyJ"):
        return _jwt_end(text, end)
    if found.startswith(_OF_ONE_LENGTH):
        return end
    if found.startswith("whsec_"):
        return _end_of_run(_OF_BASE64, text, end)
    return _end_of_run(_LETTERS_ONLY if found.startswith(_OF_LETTERS) else _WITH_DASHES, text, end)


def _pem_end(text: str, at: int) -> int:
    """One that was cut off ends with the text."""
    end = text.find("-----", at)
    if end < 0:
        return len(text)
    match = _END_OF_PEM.match(text, end)
    return end if match is None else match.end()


def _jwt_end(text: str, at: int) -> int | None:
    """It has a head, a body that begins like one, and a signature: https://datatracker.ietf.org/doc/html/rfc7519"""
    end = _end_of_run(_WITH_DASHES, text, at)
    if not text.startswith(".eyJ", end):
        return None
    body = end + len(".eyJ")
    end = _end_of_run(_WITH_DASHES, text, body)
    if end - body < 10 or not text.startswith(".", end):  # noqa: PLR2004
        return None
    return _end_of_run(_WITH_DASHES, text, end + 1)


def _end_of_run(characters: re.Pattern[str], text: str, at: int) -> int:
    while match := characters.match(text, at, at + PIECE):
        if match.end() < at + PIECE:
            return match.end()
        at = match.end()
    return at


def _card_end(match: re.Match[str]) -> int | None:
    """Luhn's sum: https://www.iso.org/standard/70484.html"""
    digits = match[0].encode().translate(_VALUES, b" -")
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED))
    return None if total % 10 else match.end()


def _iban_end(match: re.Match[str]) -> int | None:
    """As long as its country has it, and with the rest of 1 by 97: https://www.iso.org/standard/81090.html"""
    found = match[0]
    length = _IBAN_LENGTHS.get(found[:2])
    text = found.replace(" ", "")[:length]
    if length is None or len(text) < length or int((text[4:] + text[:4]).translate(_LETTERS)) % 97 != 1:
        return None
    end = match.start()
    for character in text:
        end = match.string.index(character, end) + 1
    follows = match.string[end : end + 1]
    return None if follows.isascii() and follows.isalnum() else end


def _end(match: re.Match[str]) -> int:
    return match.end()


def _finding(expression: re.Pattern[str], *parts: str, check: Check = _end) -> Detector:
    """A text with none of these `parts` has nothing to be found."""

    def redacted(text: str, replacement: str) -> str:
        if parts and not any(part in text for part in parts):
            return text
        found: list[str] = []
        done = at = 0
        while match := _search(expression, text, at):
            end = check(match)
            if end is None:
                at = match.start() + 1  # the real one may begin within
                continue
            found += text[done : match.start()], replacement
            done = at = end
        return "".join((*found, text[done:])) if found else text

    return redacted


def _search(expression: re.Pattern[str], text: str, at: int) -> re.Match[str] | None:
    """The first one from there on, as if the text were searched in one go."""
    while at < len(text):
        border = at + PIECE
        match = expression.search(text, at, border + _LONGEST)
        if match is not None and match.start() < border:
            return match
        at = border  # one that begins behind it may have been cut off
    return None


_FINDING_PHONES = [_finding(expression) for expression in _PHONES]


def _phones(text: str, replacement: str) -> str:
    for find in _FINDING_PHONES:
        text = find(text, replacement)
    return text


DETECTORS: Mapping[str, Detector] = {
    "secrets": _finding(_SECRETS, *_OF_SECRETS, check=_secret_end),
    "emails": _finding(_EMAILS, "@"),
    "phones": _phones,
    "cards": _finding(_CARDS, check=_card_end),
    "ibans": _finding(_IBANS, check=_iban_end),
}
