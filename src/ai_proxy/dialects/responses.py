"""OpenAI's Responses wire format: requests.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ai_proxy.dialects.responses_items import REFERENCE, chat_messages, items_of
from ai_proxy.dialects.responses_tools import chat_tools, refuse, text_of

_LOGPROBS = "message.output_text.logprobs"


def chat_request(body: dict[str, Any], *, custom_tools: bool = False) -> dict[str, Any]:
    """The same request as a chat request, without model and stream. Raises `BadRequest`.

    Few providers know the custom tools of OpenAI's chat, so the model is given functions of one text in their place,
    which `responses_answers` and `responses_events` turn back. With `custom_tools` they stay as they are, for a caller
    that reads the chat answer itself.
    """
    _check(body)
    return {
        "messages": chat_messages(body, custom_tools=custom_tools),
        **{chat: body[name] for name, chat in _SAME.items() if body.get(name) is not None},
        **_reasoning(body),
        **_text(body),
        **_logprobs(body),
        **chat_tools(body, custom_tools=custom_tools),
    }


def conversation(earlier: Sequence[tuple[dict[str, Any], dict[str, Any]]], request: dict[str, Any]) -> dict[str, Any]:
    """The request with the (request, response) pairs that it continues, oldest first, in its input.

    Their `instructions` are not carried over:
    https://platform.openai.com/docs/api-reference/responses/create#responses-create-instructions
    """
    items: list[Any] = []
    for asked, answered in earlier:
        items += items_of(asked)
        items += answered.get("output") or []
    rest = {name: value for name, value in request.items() if name != "previous_response_id"}
    return {**rest, "input": [*items, *items_of(request)]}


class Asked(msgspec.Struct):
    """What a conversation needs of an earlier request."""

    input: msgspec.Raw = msgspec.Raw(b"null")
    previous_response_id: str | None = None


def read_asked(request: bytes) -> Asked:
    return _asked.decode(request)


def read_output(response: bytes) -> list[msgspec.Raw]:
    """The items of an earlier response, as they were written; none where it has no list of them."""
    try:
        return _answered.decode(response).output or []
    except msgspec.ValidationError:
        return []


def named_items(response: bytes) -> Iterator[tuple[str, msgspec.Raw]]:
    """Those that have a name, with it."""
    for item in read_output(response):
        try:
            name = _named.decode(item).id
        except msgspec.ValidationError:
            continue
        if name is not None:
            yield name, item


def referenced(request: dict[str, Any]) -> dict[str, Counter[str]]:
    """For each response of ours that the input refers to: the names of the items, and how often each is meant.

    The AI SDK refers to items in place of sending them again: https://ai-sdk.dev/providers/ai-sdk-providers/openai
    """
    given = request.get("input")
    found: dict[str, Counter[str]] = {}
    for item in given if isinstance(given, list) else ():
        match = _OUR_ITEM.match(_reference(item) or "")
        if match is not None:
            found.setdefault(f"resp_{match[1]}", Counter())[match[0]] += 1
    return found


def dereferenced(request: dict[str, Any], items: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the items themselves, given by their names, in place of references to them."""
    return {**request, "input": [items.get(_reference(item) or "", item) for item in items_of(request)]}


def looks_like_responses(fields: Mapping[str, Any]) -> bool:
    """Whether a body that came to chat completions is one of ours, as Cursor's are.

    https://forum.cursor.com/t/159298
    """
    return "input" in fields and fields.get("messages") in (None, [])


def wants_logprobs(body: dict[str, Any]) -> bool:
    return _LOGPROBS in (body.get("include") or ()) or bool(body.get("top_logprobs"))


class _Answered(msgspec.Struct):
    output: list[msgspec.Raw] | None = None


class _Named(msgspec.Struct):
    id: str | None = None


_asked = msgspec.json.Decoder(Asked)
_answered = msgspec.json.Decoder(_Answered)
_named = msgspec.json.Decoder(_Named)

_OUR_ITEM = re.compile(r"[a-z]+_([0-9a-f]{32})[0-9a-f]{2,3}\Z")


def _reference(item: Any) -> str | None:
    """The name of the item that this one refers to, if it does. The type may be left out."""
    if not isinstance(item, dict) or item.get("type", REFERENCE) not in (None, REFERENCE) or "role" in item:
        return None
    identifier = item.get("id")
    return identifier if isinstance(identifier, str) else None


# Every server knows max_tokens. Those that do not know max_completion_tokens, as Ollama, would write on without end:
# https://github.com/ollama/ollama/pull/14464. Only OpenAI's own reasoning models refuse max_tokens, and they are asked
# in Responses itself.
_SAME = {
    "max_output_tokens": "max_tokens",
    **{
        name: name
        for name in (
            "temperature",
            "top_p",
            "presence_penalty",
            "frequency_penalty",
            "user",
            "safety_identifier",
            "prompt_cache_key",
            "service_tier",
        )
    },
}
# Not among them: `store` and `metadata` are about our record of the response, and OpenAI's chat refuses metadata of
# what it does not store; `truncation`, because no chat provider truncates.

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "a number": ((int, float), "temperature top_p presence_penalty frequency_penalty"),
    "a whole number": ((int,), "max_output_tokens max_tool_calls top_logprobs"),
    "a text": (
        (str,),
        "instructions previous_response_id user safety_identifier prompt_cache_key service_tier truncation",
    ),
    "an object": ((dict,), "text reasoning metadata"),
    "a list": ((list,), "include tools"),
    "true or false": ((bool,), "background parallel_tool_calls store"),
}
_REFUSED = {
    "conversation": "conversations are not kept here: send their items as input, or previous_response_id.",
    "prompt": "stored prompts are not kept here: send their text as instructions and input.",
    "moderation": "the model asked for is reached by an API without moderation.",
}


def _check(body: dict[str, Any]) -> None:
    for words, (types, names) in _KINDS.items():
        for name in names.split():
            value = body.get(name)
            if value is not None and type(value) not in types:
                refuse(name, f"must be {words}.")
    _refuse_unsupported(body)


def _refuse_unsupported(body: dict[str, Any]) -> None:
    for name, why in _REFUSED.items():
        if body.get(name) is not None:
            refuse(name, why)
    if body.get("background"):
        refuse("background", "answers cannot be written in the background here.")
    if body.get("truncation") not in (None, "auto", "disabled"):
        refuse("truncation", "must be auto or disabled.")


def _reasoning(body: dict[str, Any]) -> dict[str, Any]:
    effort = (body.get("reasoning") or {}).get("effort")
    return {} if effort is None else {"reasoning_effort": effort}


def _text(body: dict[str, Any]) -> dict[str, Any]:
    text = body.get("text") or {}
    verbosity = text.get("verbosity")
    return {
        **({} if verbosity is None else {"verbosity": verbosity}),
        **_format(text.get("format")),
    }


def _format(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if kind != "json_schema":
        refuse("text.format", "must be of type text, json_object or json_schema.")
    if not isinstance(given.get("schema"), dict):
        refuse("text.format.schema", "must be an object.")
    schema = {"name": text_of(given, "name", "text.format"), "schema": given["schema"]}
    rest = {name: given[name] for name in ("description", "strict") if given.get(name) is not None}
    return {"response_format": {"type": "json_schema", "json_schema": schema | rest}}


def _logprobs(body: dict[str, Any]) -> dict[str, Any]:
    if not wants_logprobs(body):
        return {}
    top = body.get("top_logprobs")
    return {"logprobs": True, **({} if top is None else {"top_logprobs": top})}
