"""Text completions without a model. Source of the shapes: https://platform.openai.com/docs/api-reference/completions"""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_request import Choices, Positive, cut, digest, read, usage, words_of

_MOST_CHOICES = 128
_MOST_ECHOED = 2**24  # characters


class _Request(msgspec.Struct):
    prompt: str | list[Any]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    n: Choices | None = None
    best_of: Positive | None = None
    stop: str | list[str] | None = None
    echo: bool | None = None
    suffix: str | None = None


class TextChoice(msgspec.Struct, frozen=True):
    words: list[str]
    finish_reason: str


class TextAnswer(msgspec.Struct, frozen=True):
    choices: list[TextChoice]
    usage: dict[str, Any]
    head: dict[str, Any]

    @property
    def size(self) -> int:
        """How many chunks bear its content."""
        return sum(len(choice.words) for choice in self.choices)


def text_answer_to(body: dict[str, Any], *, model: str, created: int, read_tokens: int) -> TextAnswer:
    """`n` answers for each prompt. Raises `ProviderFault` for a request that no provider would take."""
    request = read(_Request, body)
    prompts, count = _prompts(request.prompt), request.n or 1
    if len(prompts) * count > _MOST_CHOICES or (request.echo and sum(map(len, prompts)) * count > _MOST_ECHOED):
        raise ProviderFault("n: too many answers for the mock.", status=400)
    choices = [_choice(request, prompt, number) for prompt in prompts for number in range(count)]
    head = {"id": f"cmpl-{digest(body)[:29]}", "object": "text_completion", "created": created, "model": model}
    written = sum(len(choice.words) for choice in choices)
    return TextAnswer(choices, usage(read_tokens, written), {**head, "system_fingerprint": "fp_mock"})


def text_completion(answer: TextAnswer) -> dict[str, Any]:
    choices = [_part(index, "".join(choice.words), choice.finish_reason) for index, choice in enumerate(answer.choices)]
    return {**answer.head, "choices": choices, "usage": answer.usage}


def text_chunks(answer: TextAnswer) -> Iterator[dict[str, Any]]:
    for index, choice in enumerate(answer.choices):
        for word in choice.words:
            yield {**answer.head, "choices": [_part(index, word, None)], "usage": None}
    for index, choice in enumerate(answer.choices):
        yield {**answer.head, "choices": [_part(index, "", choice.finish_reason)], "usage": None}
    yield {**answer.head, "choices": [], "usage": answer.usage}


def _prompts(prompt: str | list[Any]) -> list[str]:
    """One text for each prompt; of one in token numbers, how many they are."""
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(one, str) for one in prompt):
        return prompt
    if all(isinstance(one, int) for one in prompt):
        return [_tokens(prompt)]
    if all(isinstance(one, list) for one in prompt):
        return [_tokens(one) for one in prompt]
    raise ProviderFault("prompt: must be a text, texts, token numbers, or lists of token numbers.", status=400)


def _tokens(numbers: list[Any]) -> str:
    return f"{len(numbers)} token{'s' * (len(numbers) != 1)}"


def _choice(request: _Request, prompt: str, number: int) -> TextChoice:
    text = f"This is a mock answer, no model was asked. You said: {prompt}"
    if number:
        text = f"This is mock answer {number + 1}, no model was asked."
    words, reason = cut(text, stop=request.stop, most=request.max_tokens)
    return TextChoice([*words_of(f"{prompt} "), *words] if request.echo else words, reason)


def _part(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
