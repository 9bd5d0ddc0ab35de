"""Google's Gemini API, generateContent: its answers as chat completions, whole and in streams."""

from typing import Any

import msgspec

from ai_proxy.dialects import gemini_wire as wire
from ai_proxy.dialects import pivot
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.gemini_wire import Candidate, FunctionCall, Part, Token


def to_completion(
    answer: dict[str, Any], *, identifier: str, created: int, model: str, one_call: bool = False
) -> dict[str, Any]:
    """Raises `ProviderFault` for an error in place of an answer, and for one that has none: a blocked prompt.

    `one_call`: of tool calls made together, pass on the first. Gemini cannot be kept from making several.
    """
    read = wire.read(answer)
    if not read.candidates:
        raise ProviderFault("")
    choices = [
        _choice(candidate, _Answer(identifier, candidate.index, one_call=one_call)) for candidate in read.candidates
    ]
    choices.sort(key=lambda choice: choice["index"])
    return pivot.completion(pivot.head(identifier, created, model), choices, _usage(read.usageMetadata))


class ToChunks:
    """A stream's events, one after the other. `close` after the last: the usage of the last event that had one counts.

    `finished` is whether every answer that was begun has its finish reason. For `one_call` see `to_completion`.
    """

    def __init__(self, *, identifier: str, created: int, model: str, one_call: bool = False) -> None:
        self._one_call = one_call
        self._identifier = identifier
        self._head = pivot.head(identifier, created, model)
        self._answers: dict[int, _Answer] = {}
        self._usage: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        return bool(self._answers) and all(answer.finished for answer in self._answers.values())

    def feed(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        read = wire.read(event)
        self._usage = _usage(read.usageMetadata) or self._usage
        return [chunk for candidate in read.candidates for chunk in self._chunks(candidate)]

    def close(self) -> list[dict[str, Any]]:
        return [] if self._usage is None else [pivot.usage_chunk(self._head, self._usage)]

    def _chunks(self, candidate: Candidate) -> list[dict[str, Any]]:
        index = candidate.index
        answer = self._answers.get(index)
        if answer is not None and answer.finished:
            return []
        role = {} if answer else {"role": "assistant"}
        answer = answer or self._answers.setdefault(index, _Answer(self._identifier, index, one_call=self._one_call))
        chunks = []
        if delta := answer.take(candidate):
            chunks.append(pivot.chunk(self._head, role | delta, index=index))
            chunks[-1]["choices"][0] |= _logprobs(candidate)
        elif role:
            chunks.append(pivot.chunk(self._head, {**role, "content": ""}, index=index))
        if candidate.finishReason:
            chunks.append(pivot.chunk(self._head, {}, finish=answer.finish(candidate), index=index))
        return chunks


class _Answer:
    """One candidate, as far as it has come."""

    def __init__(self, identifier: str, index: int, *, one_call: bool) -> None:
        self.finished = False
        self._one_call = one_call
        self._prefix = f"call_{identifier.replace('-', '')[-24:]}_{index}_"
        self._calls = 0
        self._said = False

    def take(self, candidate: Candidate) -> dict[str, Any]:
        """What these parts of it add, as a delta."""
        delta: dict[str, Any] = {}
        for part in candidate.parts:
            if part.functionCall is not None:
                if self._one_call and self._calls:
                    continue
                delta.setdefault("tool_calls", []).append(self._call(part.functionCall, part.thoughtSignature))
            elif part.thought:
                delta["reasoning_content"] = delta.get("reasoning_content", "") + (part.text or "")
            else:
                _say(delta, part)
        self._said = self._said or bool(delta)
        return delta

    def finish(self, candidate: Candidate) -> str:
        """Why it ended, in the words of chat. Raises `ProviderFault` where it is broken rather than ended."""
        self.finished = True
        reason = candidate.finishReason or ""
        if reason in _BROKEN:
            message = f"The model's answer broke off: {reason}."
            raise ProviderFault(message, status=_BROKEN[reason], code=reason)
        if reason in _ENDS:
            end = _ENDS[reason]
        elif self._said:
            end = "stop"
        else:
            raise ProviderFault("", code=reason)
        return "tool_calls" if end == "stop" and self._calls else end

    def _call(self, call: FunctionCall, signature: str | None) -> dict[str, Any]:
        index, self._calls = self._calls, self._calls + 1
        said = {
            "index": index,
            "id": call.id or f"{self._prefix}{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": msgspec.json.encode(call.args or {}).decode()},
        }
        return said | _extra(signature)


_ENDS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
}
# What is no answer, and has no finish reason in chat. Another try may do better, but for the request's own fault.
_BROKEN: dict[str, int | None] = {
    "MALFORMED_FUNCTION_CALL": None,
    "MALFORMED_RESPONSE": None,
    "UNEXPECTED_TOOL_CALL": None,
    "TOO_MANY_TOOL_CALLS": None,
    "MISSING_THOUGHT_SIGNATURE": 400,
}


def _say(delta: dict[str, Any], part: Part) -> None:
    if part.text is not None:
        delta["content"] = delta.get("content", "") + part.text
    if part.inlineData is not None:  # where OpenRouter has them: https://openrouter.ai/docs/features/multimodal
        url = f"data:{part.inlineData.mimeType};base64,{part.inlineData.data}"
        delta.setdefault("images", []).append({"type": "image_url", "image_url": {"url": url}})
    delta |= _extra(part.thoughtSignature)


def _extra(signature: str | None) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def _choice(candidate: Candidate, answer: _Answer) -> dict[str, Any]:
    message = answer.take(candidate)
    for call in message.get("tool_calls", []):
        del call["index"]
    content = None if "tool_calls" in message else ""
    return {
        "index": candidate.index,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": answer.finish(candidate),
        **_logprobs(candidate),
    }


def _logprobs(candidate: Candidate) -> dict[str, Any]:
    result = candidate.logprobsResult
    if result is None:
        return {}
    tops = result.topCandidates
    content = [
        {**_token(chosen), "top_logprobs": [_token(top) for top in (tops[at].candidates if at < len(tops) else [])]}
        for at, chosen in enumerate(result.chosenCandidates)
    ]
    return {"logprobs": {"content": content, "refusal": None}}


def _token(token: Token) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logProbability, "bytes": list(token.token.encode())}


def _usage(raw: Any) -> dict[str, Any] | None:
    """None when there is no count yet, or it is none: streams have empty ones before the last."""
    try:
        usage = msgspec.convert(raw, wire.Usage)
    except msgspec.ValidationError:
        return None
    return pivot.usage(
        usage.promptTokenCount + usage.toolUsePromptTokenCount,
        usage.candidatesTokenCount + usage.thoughtsTokenCount,
        cached=usage.cachedContentTokenCount,
        reasoning=usage.thoughtsTokenCount,
        audio=(_heard(usage.promptTokensDetails), _heard(usage.candidatesTokensDetails)),
    )


def _heard(details: Any) -> int:
    """How many of the tokens were sounds. Nothing, if the list of kinds is none."""
    try:
        parts = msgspec.convert(details, list[wire.OfKind])
    except msgspec.ValidationError:
        return 0
    return sum(part.tokenCount for part in parts if part.modality == "AUDIO")
