"""The providers that are known by name: where they are, what their keys are called, what they take as it is.

The order is the order of preference when nothing but keys is set. Facts are the provider's own, from the page in
`docs`; a quirk that another page tells has its link beside it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

Dialect = Literal["chat", "responses", "messages", "completions", "embeddings", "moderations"]
Kind = Literal["openai", "anthropic", "gemini", "bedrock", "mock"]

_LOCAL: frozenset[Dialect] = frozenset({"chat", "responses", "messages", "completions", "embeddings"})


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a provider unless the operator says otherwise."""

    kind: Kind = "openai"
    docs: str
    base_url: str = ""  # "": it has none of its own; "{region}" is replaced
    path: str = ""  # what an address must end with; added to one from the operator that lacks it
    key_variable: str | None = None
    base_url_variable: str | None = None
    region_variables: tuple[str, ...] = ()
    api_version_variable: str | None = None
    by_key: bool = True  # its key alone turns it on; False: it must be named in the file
    local: bool = False  # needs no key, and its address alone turns it on
    keyless: bool = False  # named in the file, it does without a key too: its builder knows other credentials
    key_header: str = "authorization"  # there, the key follows "Bearer "; in any other header it stands alone
    api_version: str | None = None
    default_model: str = ""  # "": a question must name one
    models: tuple[str, ...] | None = None  # None: it can be asked
    dialects: frozenset[Dialect] = frozenset({"chat"})
    prefixes: tuple[str, ...] = ()  # of model names that are its own; the longest one of all providers wins
    vendored: bool = False  # its models are named vendor/model, so "openrouter/auto" is a whole name, and
    own_names: tuple[str, ...] = ()  # so are these, though its other models have no vendor
    deployments: bool = False  # with a dated api-version, the model is named in the path
    usage_option: bool = True  # takes stream_options.include_usage; without it, usage comes all the same
    # Takes max_completion_tokens; others know, or heed, only max_tokens. None: nobody knows, so it gets what came.
    completion_limit: bool | None = False


_ROWS = {
    "openai": Preset(
        docs="https://developers.openai.com/api/reference/overview",
        base_url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        base_url_variable="OPENAI_BASE_URL",
        default_model="gpt-6-luna",  # gpt-4o-mini ends in January 2027: https://developers.openai.com/api/docs/deprecations
        dialects=frozenset({"chat", "responses", "completions", "embeddings", "moderations"}),
        prefixes=("gpt-", "chatgpt-", "codex-", "o1", "o3", "o4", "text-embedding-", "omni-moderation-"),
        completion_limit=True,
    ),
    "openrouter": Preset(
        # Its own ids begin with its own name (openrouter/auto); usage always comes, so the option has no effect.
        docs="https://openrouter.ai/docs/quickstart",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        base_url_variable="OPENROUTER_BASE_URL",
        default_model="openrouter/auto",
        dialects=frozenset({"chat", "responses", "messages", "completions", "embeddings"}),
        vendored=True,
        completion_limit=True,
    ),
    "anthropic": Preset(
        kind="anthropic",
        docs="https://platform.claude.com/docs/en/models/overview",
        base_url="https://api.anthropic.com/v1",
        path="/v1",  # its SDK's ANTHROPIC_BASE_URL is without
        key_variable="ANTHROPIC_API_KEY",
        base_url_variable="ANTHROPIC_BASE_URL",
        key_header="x-api-key",
        api_version="2023-06-01",
        default_model="claude-haiku-4-5",
        dialects=frozenset({"chat", "messages"}),
        prefixes=("claude-",),
    ),
    "gemini": Preset(
        kind="gemini",
        docs="https://ai.google.dev/api/generate-content",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        path="/v1beta",
        key_variable="GEMINI_API_KEY",
        key_header="x-goog-api-key",
        default_model="gemini-flash-latest",
        prefixes=("gemini-", "gemma-"),
    ),
    "gemini-openai": Preset(
        docs="https://ai.google.dev/gemini-api/docs/openai",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_variable="GEMINI_API_KEY",
        by_key=False,  # that key turns on "gemini"
        default_model="gemini-flash-latest",
        dialects=frozenset({"chat", "embeddings"}),
        prefixes=("gemini-", "gemma-"),
        completion_limit=True,
    ),
    "groq": Preset(
        docs="https://console.groq.com/docs/openai",
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        default_model="openai/gpt-oss-120b",
        dialects=frozenset({"chat", "responses"}),
        own_names=("groq/compound", "groq/compound-mini"),  # https://console.groq.com/docs/models
        completion_limit=True,
    ),
    "mistral": Preset(
        docs="https://docs.mistral.ai/api/",
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        default_model="mistral-small-latest",
        dialects=frozenset({"chat", "embeddings"}),
        prefixes=("mistral-", "ministral-", "magistral-", "codestral-", "devstral-", "pixtral-", "open-mi"),
        usage_option=False,  # 422 for fields it does not know: https://github.com/openai/openai-agents-python/issues/442
    ),
    "deepseek": Preset(
        docs="https://api-docs.deepseek.com/quick_start/your_first_api_call",
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        default_model="deepseek-flash",
        prefixes=("deepseek-",),
    ),
    "together": Preset(
        docs="https://docs.together.ai/docs/inference/openai-compatibility",
        base_url="https://api.together.ai/v1",
        key_variable="TOGETHER_API_KEY",
        default_model="openai/gpt-oss-20b",
        dialects=frozenset({"chat", "completions", "embeddings"}),
        vendored=True,
    ),
    "fireworks": Preset(
        docs="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
        default_model="accounts/fireworks/models/gpt-oss-120b",
        dialects=frozenset({"chat", "responses", "messages", "completions", "embeddings"}),
        prefixes=("accounts/",),
    ),
    "xai": Preset(
        docs="https://docs.x.ai/developers/introduction",
        base_url="https://api.x.ai/v1",
        key_variable="XAI_API_KEY",
        default_model="grok-4.3",
        dialects=frozenset({"chat", "responses"}),
        prefixes=("grok-",),
        completion_limit=True,
    ),
    "cerebras": Preset(
        docs="https://inference-docs.cerebras.ai/models/overview",
        base_url="https://api.cerebras.ai/v1",
        key_variable="CEREBRAS_API_KEY",
        default_model="gpt-oss-120b",
        dialects=frozenset({"chat", "completions"}),
        prefixes=("gpt-oss-",),
        completion_limit=True,
    ),
    "perplexity": Preset(
        docs="https://docs.perplexity.ai/docs/sonar/openai-compatibility",
        base_url="https://api.perplexity.ai",
        key_variable="PERPLEXITY_API_KEY",
        default_model="sonar",
        models=("sonar", "sonar-pro", "sonar-reasoning-pro", "sonar-deep-research"),  # it lists none
        prefixes=("sonar",),
    ),
    "nvidia": Preset(
        docs="https://docs.api.nvidia.com/nim/reference/llm-apis",
        base_url="https://integrate.api.nvidia.com/v1",
        key_variable="NVIDIA_API_KEY",
        default_model="openai/gpt-oss-120b",
        dialects=frozenset({"chat", "completions", "embeddings"}),
        vendored=True,
    ),
    "huggingface": Preset(
        docs="https://huggingface.co/docs/inference-providers/index",
        base_url="https://router.huggingface.co/v1",
        key_variable="HF_TOKEN",
        by_key=False,  # many have that token for other ends
        default_model="openai/gpt-oss-120b",
        dialects=frozenset({"chat", "responses"}),
        vendored=True,
    ),
    "azure": Preset(
        # Without a dated api-version, its v1 API: the model is a deployment's name, in the body as with OpenAI.
        docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        path="/openai/v1",
        key_variable="AZURE_OPENAI_API_KEY",
        base_url_variable="AZURE_OPENAI_ENDPOINT",
        api_version_variable="OPENAI_API_VERSION",
        key_header="api-key",
        dialects=frozenset({"chat", "responses", "completions", "embeddings"}),
        deployments=True,
        completion_limit=True,
    ),
    "bedrock": Preset(
        kind="bedrock",
        docs="https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html",
        base_url="https://bedrock-runtime.{region}.amazonaws.com",
        key_variable="AWS_BEARER_TOKEN_BEDROCK",
        region_variables=("AWS_REGION", "AWS_DEFAULT_REGION"),
        keyless=True,
        prefixes=(
            *("amazon.", "anthropic.", "meta.", "mistral.", "cohere.", "openai.", "deepseek.", "qwen."),
            *("us.", "eu.", "apac.", "jp.", "au.", "ca.", "global.", "arn:aws:bedrock"),
        ),
    ),
    "ollama": Preset(
        # max_completion_tokens is taken and not heeded: https://github.com/ollama/ollama/issues/7125
        docs="https://docs.ollama.com/api/openai-compatibility",
        base_url="http://127.0.0.1:11434/v1",
        path="/v1",
        base_url_variable="OLLAMA_BASE_URL",  # OLLAMA_HOST is what its server listens on
        local=True,
        dialects=_LOCAL,
    ),
    "vllm": Preset(
        docs="https://docs.vllm.ai/en/stable/serving/online_serving.html",
        base_url="http://127.0.0.1:8000/v1",
        path="/v1",
        base_url_variable="VLLM_BASE_URL",
        local=True,
        dialects=_LOCAL,
        completion_limit=True,
    ),
    "lmstudio": Preset(
        docs="https://lmstudio.ai/docs/developer/openai-compat",
        base_url="http://127.0.0.1:1234/v1",
        path="/v1",
        base_url_variable="LMSTUDIO_BASE_URL",
        local=True,
        dialects=_LOCAL,
    ),
    "llamacpp": Preset(
        # Its /v1/responses is partial, with events out of order: https://github.com/ggml-org/llama.cpp/pull/18486
        docs="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        base_url="http://127.0.0.1:8080/v1",
        path="/v1",
        base_url_variable="LLAMACPP_BASE_URL",
        local=True,
        dialects=_LOCAL - {"responses"},
    ),
    "mock": Preset(
        kind="mock",
        docs="docs/settings.md",
        base_url="mock://",
        local=True,
        default_model="mock",
        models=("mock",),
        prefixes=("mock",),
        vendored=True,  # mock/error-429 is a whole name
    ),
}

PRESETS: Mapping[str, Preset] = MappingProxyType(_ROWS)

# A server that is known by nothing but its address.
UNKNOWN = Preset(docs="", local=True, dialects=frozenset({"chat", "completions", "embeddings"}), completion_limit=None)
