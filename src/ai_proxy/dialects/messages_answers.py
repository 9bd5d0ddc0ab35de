"""A chat completion as an Anthropic message.

A provider's answer is taken for what it can be: a field of the wrong shape counts as missing.
Source: https://platform.claude.com/docs/en/api/messages/create
"""

from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.shapes import as_list, as_object, text_of

_MAX_COUNT = 2**53  # of tokens: beyond it is no count


def from_completion(
    completion: dict[str, Any], request: dict[str, Any], *, identifier: str, created: int
) -> dict[str, Any]:
    """`created` goes unused: a message does not say when it was made. Raises `ProviderFault` for no completion."""
    choice = first_choice(completion)
    if not isinstance(choice.get("message"), dict):
        raise ProviderFault("")
    message = choice["message"]
    calls = [call for call in as_list(message.get("tool_calls")) if isinstance(call, dict)]
    refusal = text_of(message.get("refusal"))
    blocks = []
    if wants_thinking(request) and (thinking := reasoning_of(message)):
        blocks.append(thinking_block(thinking))
    blocks += [text_block(text) for text in (text_of(message.get("content")), refusal) if text]
    blocks += [_tool_use(call, tool_id(identifier, position)) for position, call in enumerate(calls)]
    model = completion.get("model")
    return {
        **opening(identifier, model if isinstance(model, str) else text_of(request.get("model"))),
        "content": blocks,
        **stopped(choice, request, tools=bool(calls), refused=bool(refusal)),
        "usage": usage(completion.get("usage")),
    }


def opening(identifier: str, model: str) -> dict[str, Any]:
    """A message before anything was said."""
    return {
        "id": f"msg_{identifier.replace('-', '')}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage(None),
    }


def wants_thinking(request: dict[str, Any]) -> bool:
    """Whether thinking may come before the text. Callers who did not ask for it take the first block for the answer."""
    thinking = request.get("thinking")
    return (
        isinstance(thinking, dict)
        and thinking.get("type") in ("enabled", "adaptive")
        and thinking.get("display") != "omitted"
    )


def stopped(choice: dict[str, Any], request: dict[str, Any], *, tools: bool, refused: bool) -> dict[str, Any]:
    """Why the answer ended. Some servers say `stop` after tool calls, too."""
    finish = choice.get("finish_reason")
    sequence = choice.get("stop_reason")  # https://docs.vllm.ai/en/latest/serving/openai_compatible_server
    if refused or finish == "content_filter":
        return _stop("refusal")
    if finish == "length":
        return _stop("max_tokens")
    if tools:
        return _stop("tool_use")
    if isinstance(sequence, str) and sequence in as_list(request.get("stop_sequences")):
        return _stop("stop_sequence", sequence)
    return _stop("end_turn")


def _stop(reason: str, sequence: str | None = None) -> dict[str, Any]:
    return {"stop_reason": reason, "stop_sequence": sequence}


def usage(counted: object) -> dict[str, Any]:
    """Chat counts cached tokens, read and written, among those of the prompt, Anthropic beside them."""
    given = as_object(counted)
    parts = as_object(given.get("prompt_tokens_details"))
    cached, stored = _count(parts.get("cached_tokens")), _count(parts.get("cache_write_tokens"))
    counts: dict[str, Any] = {
        "input_tokens": max(_count(given.get("prompt_tokens")) - cached - stored, 0),
        "output_tokens": _count(given.get("completion_tokens")),
        "cache_creation_input_tokens": stored,
        "cache_read_input_tokens": cached,
    }
    reasoning = _count(as_object(given.get("completion_tokens_details")).get("reasoning_tokens"))
    if reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": reasoning}
    return counts


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MAX_COUNT else 0


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def thinking_block(thinking: str) -> dict[str, Any]:
    """Only Anthropic can sign one: the empty signature says that nobody did."""
    return {"type": "thinking", "thinking": thinking, "signature": ""}


def tool_block(identifier: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": arguments}


def tool_id(identifier: str, position: int) -> str:
    """For a tool call that came without."""
    return f"toolu_{identifier.replace('-', '')}_{position}"


def _tool_use(call: dict[str, Any], fallback: str) -> dict[str, Any]:
    function = as_object(call.get("function"))
    name = text_of(function.get("name"))
    return tool_block(text_of(call.get("id")) or fallback, name, _input(function.get("arguments")))


def _input(arguments: object) -> dict[str, Any]:
    """Models do write arguments that are no JSON object: the tool is shown what came, and can complain about it."""
    if isinstance(arguments, dict):
        return arguments
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        decoded = arguments
    return {} if decoded is None else decoded if isinstance(decoded, dict) else {"arguments": decoded}


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    """Of a completion or of a chunk. Empty if there is none."""
    choices = as_list(answer.get("choices"))
    return as_object(choices[0]) if choices else {}


def reasoning_of(message: dict[str, Any]) -> str:
    """DeepSeek and vLLM say `reasoning_content`, OpenRouter and newer vLLM `reasoning`."""
    return text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))
