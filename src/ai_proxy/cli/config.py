"""ai-proxy config …"""

import asyncio
import json
from typing import Annotated, Any

import typer

from ai_proxy.core.checks import variables_of_providers
from ai_proxy.core.config import Settings, load_settings
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.shown import shown
from ai_proxy.core.sources import ConfigurationError, Sources

app = typer.Typer(help="Settings: check them, show them, explain what becomes of a call.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@app.command()
def check() -> None:
    """Say what is wrong with the settings, a line for each problem, and exit with 1; or exit with 0.

    Example: ai-proxy config check && ai-proxy serve
    """
    settings = load_settings()
    _build(settings)
    sources = Sources(Settings, settings.config)
    for ignored in (*sources.strangers(), *sources.near_misses(variables_of_providers(settings.providers))):
        typer.echo(f"ai-proxy: {ignored} (ignored)", err=True)
    typer.echo(f"file:      {sources.file.path if sources.file else '(none)'}")
    typer.echo(f"providers: {', '.join(settings.resolved_providers())}")
    typer.echo(f"models:    {', '.join(settings.models) or '(those of the providers)'}")
    if settings.uses_mock and not settings.mock_mode:
        from ai_proxy.services.setup import mock_mode  # noqa: PLC0415 - as in `explain`

        typer.echo(mock_mode(settings))
    typer.echo("The settings are in order.")


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show every setting that is in force, and where it comes from. Secrets are masked.

    Examples:

      ai-proxy config show | grep providers

      ai-proxy config show --json | jq '.[] | select(.source != "default")'
    """
    settings = load_settings()
    rows = shown(settings, Sources(Settings, settings.config))
    if as_json:
        typer.echo(json.dumps([row._asdict() for row in rows], ensure_ascii=False, indent=2))
        return
    values = [_text(row.value) for row in rows]
    name_width = max(len(row.setting) for row in rows)
    for row, value in zip(rows, values, strict=True):
        typer.echo(f"{row.setting:{name_width}}  {value:40}  {row.source}")


@app.command()
def explain(
    model: Annotated[str | None, typer.Argument(help="The model, as a call names it. None: the default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what would become of a call: where it goes, in which order, with which deadlines and which key.

    No provider is asked anything, so a model that only a provider's own list would tell of goes by the other rules.

    Examples:

      ai-proxy config explain gpt-6-luna

      ai-proxy config explain --json
    """
    from ai_proxy.cli import explanation  # noqa: PLC0415 - `show` needs none of what this one builds

    settings = load_settings()
    try:
        found = asyncio.run(explanation.explain(settings, model))
    except ConfigurationError as error:
        raise SystemExit(_lines(error)) from None
    except GatewayError as error:
        message = f"ai-proxy: {error.message}"
        raise SystemExit(message) from None
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(explanation.lines(found)))


def _build(settings: Settings) -> None:
    """See whether all that the settings name can be built, too."""
    from ai_proxy.cli import explanation  # noqa: PLC0415 - as above

    try:
        asyncio.run(explanation.router(settings))
    except ConfigurationError as error:
        raise SystemExit(_lines(error)) from None


def _lines(error: ConfigurationError) -> str:
    return "\n".join(f"ai-proxy: {problem}" for problem in error.problems)


def _text(value: Any) -> str:
    """A value as one word of a line."""
    match value:
        case None | "":
            return "(unset)"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(_text, value)) or "(none)"
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
