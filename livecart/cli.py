"""The command line: options into settings, and faults into one line and a status.

Owns nothing else; each command is a call of the module that does it. Status 0: done; 1: it did not
work, and the line says why; 2: what was asked for, or a setting, is not usable.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from livecart.settings import VARIABLES, SettingsError, load, values

app = typer.Typer(
    name="livecart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The backend of live shopping: pins, flash offers and orders that never oversell.",
    epilog="Every setting is a LIVECART_… variable: `livecart settings` lists them.",
)

# Text, and read by `settings`: an option and its variable have the same bounds and the same words.
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[str | None, typer.Option(help="Port to listen on; 0 takes a free one.")]
Workers = Annotated[str | None, typer.Option(help="Processes that share the port.")]
DataDir = Annotated[str | None, typer.Option(help="Folder of the embedded servers' data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]

_OPTIONS = {
    "LIVECART_HOST": "--host",
    "LIVECART_PORT": "--port",
    "LIVECART_WORKERS": "--workers",
    "LIVECART_DATA_DIR": "--data-dir",
}


class BadOption(Exception):
    """An option that cannot be used; the text is one line and names it."""


def environ_with(**options: str | None) -> dict[str, str]:
    """Return the environment with the options that were given in place of their variables."""
    given = {f"LIVECART_{name.upper()}": text for name, text in options.items() if text is not None}
    for name, text in given.items():
        try:
            values({name: text})
        except SettingsError as error:
            raise BadOption(str(error).replace(name, _OPTIONS[name], 1)) from error
        if text == "":
            raise BadOption(f"{_OPTIONS[name]} is empty")
    return {**os.environ, **given}


def _show_version(asked: bool) -> None:
    if asked:
        try:
            version = importlib.metadata.version("livecart")
        except importlib.metadata.PackageNotFoundError:
            version = "(run from its source, not installed)"
        typer.echo(f"livecart {version}")
        raise typer.Exit


@app.callback()
def whole(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    demo: Annotated[bool, typer.Option(help="Make a demo stream to look at.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON once ready.")
    ] = False,
) -> None:
    """Run everything here: embedded servers, keeper, workers and a demo stream."""
    environ = environ_with(host=host, port=port, data_dir=data_dir, workers=workers)
    from livecart import up as all_of_it

    all_of_it.up(environ, all_of_it.Wishes(demo=demo, as_json=as_json))


@app.command()
def serve(host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Run the workers on external servers (LIVECART_REDIS_URL, LIVECART_DATABASE_URL)."""
    environ = environ_with(host=host, port=port, workers=workers)
    from livecart import up as all_of_it

    all_of_it.serve(environ)


@app.command()
def worker() -> None:
    """Run the keeper on external servers: expiry, schedules, mending. Any number; one leads."""
    from livecart.worker import keep

    keep(os.environ)


@app.command()
def migrate(
    pre: Annotated[
        bool, typer.Option("--pre", help="Only what may be done while the old release runs.")
    ] = False,
    post: Annotated[
        bool, typer.Option("--post", help="Only what comes after the roll-out.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: compare; status 1 if they differ.")
    ] = False,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Put orders in partitions: see docs/database.md.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check, print one line of JSON.")
    ] = False,
) -> None:
    """Bring the database of LIVECART_DATABASE_URL to this release's schema."""
    from livecart import schema
    from livecart.settings import demand

    if as_json and not check:
        raise BadOption("--json goes with --check")
    settings = load(os.environ)
    demand(settings, "database")
    assert settings.database_url is not None
    if check:
        raise typer.Exit(schema.check(settings.database_url, as_json, post=post or not pre))
    phases = schema.phases(pre=pre or not post, post=post or not pre)
    schema.bring(settings.database_url, phases, partitions)


@app.command()
def prune(
    older_than: Annotated[int, typer.Option(min=30, help="Days; what is younger stays.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it is.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete old rows that nothing needs: see docs/database.md. Without it, everything is kept."""
    from livecart import books

    environ = environ_with(data_dir=data_dir)
    raise typer.Exit(books.prune(environ, older_than, dry_run))


@app.command()
def token(
    role: Annotated[str, typer.Option(help="viewer, host, admin or service.")],
    sub: Annotated[str, typer.Option(help="Whom it is for: a user id.")],
    shop: Annotated[str | None, typer.Option(help="Whom a host acts for; else its sub.")] = None,
    stream: Annotated[
        list[str] | None, typer.Option(help="Good for this stream only; may be repeated.")
    ] = None,
    ttl: Annotated[int, typer.Option(min=1, help="Seconds that it is good for.")] = 43_200,
    name: Annotated[str | None, typer.Option(help="Name shown in chat; else the sub.")] = None,
    page: Annotated[
        str | None, typer.Option(help="A running server, http://HOST:PORT: a link to its page.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print a token, signed with LIVECART_SECRET or the secret of the data folder."""
    from livecart.auth import issue
    from livecart.up import find_secret

    secret = find_secret(load(environ_with(data_dir=data_dir)))
    if page is not None:
        typer.echo(page_link(secret, page.rstrip("/"), role, sub, shop, stream, ttl, name))
        return
    typer.echo(issue(secret, role=role, sub=sub, shop=shop, streams=stream, ttl_s=ttl, name=name))


def page_link(
    secret: str, base: str, role: str, sub: str, shop: str | None, streams: list[str] | None,
    ttl_s: int, name: str | None,
) -> str:  # fmt: skip
    """Return a link that opens a page as somebody, once, within a minute; raises SettingsError."""
    from livecart.auth import issue
    from livecart.entrance import link

    service = issue(secret, role="service", sub="livecart token", ttl_s=60)
    body = {
        "sub": sub, "role": role, "shop": shop, "streams": streams, "ttl_s": ttl_s, "name": name,
    }  # fmt: skip
    path = "/host" if role == "host" else f"/s/{streams[0]}" if streams else "/"
    try:
        return link(base, service, path, body)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{base} gave no link: {error}") from error


@app.command()
def ticket(
    sub: Annotated[str, typer.Option(help="The viewer whom it is for.")],
    good_for: Annotated[
        list[str], typer.Option("--for", help="An offer or stream; may be repeated.")
    ],
    ttl: Annotated[int, typer.Option(min=1, help="Seconds that it is good for.")] = 600,
) -> None:
    """Print a ticket to buy with, signed with LIVECART_TICKET_SECRET."""
    from livecart.eligibility import issue

    secret = load(os.environ).auth.ticket_secret
    if secret is None:
        raise SettingsError("LIVECART_TICKET_SECRET is not set")
    typer.echo(issue(secret, sub=sub, good_for=good_for, exp_s=int(time.time()) + ttl))


@app.command()
def doctor(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Check everything that livecart needs, and say what to do."""
    from livecart import doctor as checks

    environ = environ_with(host=host, port=port, data_dir=data_dir)
    failed = False
    for finding in checks.examine(environ):
        typer.echo(str(finding))
        failed |= finding.failed
    raise typer.Exit(1 if failed else 0)


@app.command()
def ledger(
    offer: Annotated[str, typer.Argument(help="Id of the offer: of_….")],
    limit: Annotated[int, typer.Option(min=0, help="The last so many; 0: all.")] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show every movement of an offer's units, and whether they sum to its counters."""
    from livecart import books

    environ = environ_with(data_dir=data_dir)
    raise typer.Exit(books.ledger(environ, offer, limit or None, as_json))


@app.command()
def reconcile(
    offers: Annotated[
        list[str] | None, typer.Argument(help="Ids; without any, all that Redis decides about.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is different.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Compare offers in Redis with Postgres, name by name; status 0 when they agree at the end."""
    from livecart import books

    environ = environ_with(data_dir=data_dir)
    raise typer.Exit(books.reconcile(environ, offers or [], repair, as_json))


@app.command()
def settle(
    days: Annotated[
        float, typer.Option(min=0.01, max=90, help="How far back payments are looked at.")
    ] = 2.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Compare payments with what their provider lists; status 0 when both say the same."""
    from livecart import settle as settling

    raise typer.Exit(settling.settle(environ_with(data_dir=data_dir), days, as_json))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(context: typer.Context) -> None:
    """Play a short sale with simulated viewers; takes the options of `livecart-loadtest demo`."""
    # A process of its own: the harness judges from outside, and nothing here may import it.
    command = [sys.executable, "-m", "loadtest.cli", "demo", *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def settings() -> None:
    """List every variable: its value now, default and meaning. Secrets are not shown."""
    found = values(os.environ)
    for variable in VARIABLES:
        now = variable.shown(found[variable.name])
        default = variable.shown(variable.default)
        typer.echo(f"{variable.name} = {now}")
        typer.echo(f"    {variable.meaning}; {variable.allowed}; default: {default}")


@app.command()
def spec(which: Annotated[str, typer.Argument(help="openapi or asyncapi.")] = "openapi") -> None:
    """Print the description of the HTTP calls (OpenAPI) or of the WebSocket (AsyncAPI)."""
    if which == "asyncapi":
        from streams.spec import asyncapi

        found = asyncapi()
    elif which == "openapi":
        from livecart.api.openapi import document
        from livecart.api.table import OPERATIONS

        found = document(OPERATIONS)
    else:
        raise BadOption(f"{which!a} is no description: openapi or asyncapi")
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its status; a fault that a user can mend is one line."""
    from livecart.books import ServersFault
    from livecart.demo_data import DemoFault
    from livecart.embedded import EmbeddedError
    from livecart.fleet import CannotListen
    from livecart.schema import DatabaseFault

    try:
        status = app(list(arguments), prog_name="livecart", standalone_mode=False)
    except TyperException as error:
        # Without a word: no command was given, and the help has been shown already.
        return fail(error.format_message(), 2) if error.format_message() else 2
    except (SettingsError, BadOption) as error:
        return fail(str(error), 2)
    except (EmbeddedError, CannotListen, DatabaseFault, DemoFault, ServersFault) as error:
        return fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    return status if isinstance(status, int) else 0


def fail(why: str, status: int) -> int:
    """Say why on stderr."""
    typer.echo(f"livecart: {why}", err=True)
    return status


def main() -> None:
    """Console script `livecart`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
