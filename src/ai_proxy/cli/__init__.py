"""The command `ai-proxy`. Each group of verbs has a module of its own."""

from typing import Annotated

import typer

from ai_proxy import __version__
from ai_proxy.cli import audit, budgets, config, db, history, keys, limits, projects, sessions, users
from ai_proxy.cli.serve import serve
from ai_proxy.cli.usage import show_usage

app = typer.Typer(
    epilog="Settings come from the environment, .env and ai-proxy.toml in the working directory: see docs/settings.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command(name="usage")(show_usage)
app.add_typer(keys.app, name="keys")
app.add_typer(projects.app, name="projects")
app.add_typer(users.app, name="users")
app.add_typer(sessions.app, name="sessions")
app.add_typer(history.app, name="history")
app.add_typer(audit.app, name="audit")
app.add_typer(limits.app, name="limits")
app.add_typer(budgets.app, name="budgets")
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ai-proxy {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A gateway between programs and large language models.

    Examples:

      ai-proxy serve

      ai-proxy keys create laptop
    """
