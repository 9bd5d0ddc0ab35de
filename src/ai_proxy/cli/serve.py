"""ai-proxy serve"""

from typing import Annotated, Any

import typer

from ai_proxy.core.config import load_settings

_EXAMPLES = """
Examples:

  ai-proxy serve

  ai-proxy serve --port 9000

  OPENAI_API_KEY=sk-… ai-proxy serve --host 0.0.0.0
"""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (HOST).", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (PORT).", show_default="8000")] = None,
) -> None:
    """Start the service. It brings the database to the current schema by itself."""
    given: dict[str, Any] = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})

    # Before the rest is imported: that takes the room which the lists that are not kept leave.
    from ai_proxy.gateway.pricing import load_lists  # noqa: PLC0415 - the other verbs, and wrong settings, need none

    load_lists(settings.resolved_providers())
    from ai_proxy.api import server  # noqa: PLC0415
    from ai_proxy.app import create_app  # noqa: PLC0415

    listener = server.listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    calls = sum(provider.max_connections for provider in settings.resolved_providers().values())
    server.serve(create_app(settings), listener, settings.server, calls=calls)


serve.__doc__ = f"{serve.__doc__}\n{_EXAMPLES}"
