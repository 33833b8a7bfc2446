"""Where does the `App` come from? From the service's own module, or from a database URL alone; and it is closed as it was opened."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from inspect import Parameter, isawaitable, iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, Final

from finresilience.cli.app import App
from finresilience.errors import ConfigurationError, FinresilienceError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncGenerator

URL: Final = "FINRESILIENCE_DATABASE_URL"
_STORES: Final = ("outbox", "idempotency", "inbox", "relay")
_WANTED: Final = "an App, a (Tables, engine) pair, a Relay, a Pipeline, an object with .outbox, .idempotency or .inbox, or what makes one"


@asynccontextmanager
async def opened(args: Namespace) -> AsyncGenerator[App]:
    """Yield what the command works on, once its tables were found to be as they are needed."""
    async with AsyncExitStack() as stack:
        url = getattr(args, "database_url", None)
        if args.app and url:
            raise ConfigurationError("--app and --database-url name two places: give one of them")
        if args.app:
            if getattr(args, "schema", None) or getattr(args, "prefix", None):
                raise ConfigurationError("--schema and --prefix go with --database-url: the App of --app knows its own tables")
            app = await _app_named(args.app, args.needs, stack)
        else:
            app = _app_at(url or os.environ.get(URL), args)
        stack.push_async_callback(_disposed, app)
        app.part(args.needs)
        await _checked(app, args.needs)
        yield app


def _app_at(url: str | None, args: Namespace) -> App:
    if not hasattr(args, "database_url"):
        raise ConfigurationError(f"say what to work on: --app module:object, which names {_WANTED}")
    if not url:
        raise ConfigurationError(f"say where the tables are: --app module:object, --database-url URL, or the variable {URL}")
    from finresilience.cli.database import app_of

    return app_of(url, schema=args.schema, prefix=args.prefix)


# --- module:object -------------------------------------------------------------------------------------------------------


async def _app_named(spec: str, needs: str, stack: AsyncExitStack) -> App:
    found = _imported(spec)
    try:
        return await _made(found, stack, runs=needs != "pipelines")
    except (FinresilienceError, OSError):
        raise
    except Exception as error:
        raise _explained(spec, "could not make what it names", error) from error


def _imported(spec: str) -> Any:
    module, _, path = spec.partition(":")
    if not module or not path:
        raise ConfigurationError("--app takes module:object, such as bank.service:app")
    here = os.getcwd()  # noqa: PTH109 - what Python itself would put there
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; an installed command stands elsewhere
    try:
        found: Any = import_module(module)
    except FinresilienceError:
        raise
    except Exception as error:
        raise _explained(spec, f"cannot be imported (try: python -c 'import {module}')", error) from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ConfigurationError(f"--app {spec}: there is no {name} in it") from None
    return found


def _explained(spec: str, what: str, error: Exception) -> ConfigurationError:
    """Say where it went wrong; what the error says may hold a secret, unless it is about names."""
    says = f" ({error})" if isinstance(error, ImportError) else ""
    at, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        at = f" at {os.path.basename(code.co_filename)}:{traceback.tb_lineno}"  # noqa: PTH119 - a name for a person
        traceback = traceback.tb_next
    return ConfigurationError(f"--app {spec} {what}: {type(error).__name__}{says}{at}")


async def _made(found: Any, stack: AsyncExitStack, *, runs: bool) -> App:
    """Return the App that this is, or makes, or gives when it is entered."""
    for _ in range(5):
        app = _app_of(found)
        if app is not None:
            return app
        if isawaitable(found):
            found = await found
        elif callable(getattr(found, "__aenter__", None)):
            found = await stack.enter_async_context(found)
        elif callable(getattr(found, "__enter__", None)):
            found = stack.enter_context(found)
        elif runs and callable(found) and _takes_nothing(found):
            found = found()
        else:
            break
    raise ConfigurationError(f"--app names {_kind(found)}: give {_WANTED}")


def _app_of(found: Any) -> App | None:
    if isinstance(found, App):
        return found
    if callable(getattr(found, "run_sync", None)) and callable(getattr(found, "wake", None)):
        return App(relay=found)
    if callable(getattr(found, "explain", None)):
        return App(pipelines=(found,))
    if isinstance(found, list | tuple) and len(found) == 2 and callable(getattr(found[0], "ddl", None)):
        return App(tables=found[0], engine=found[1])
    if isinstance(found, list | tuple) and found and all(callable(getattr(one, "explain", None)) for one in found):
        return App(pipelines=tuple(found))
    if callable(getattr(found, "ddl", None)):
        raise ConfigurationError("--app names Tables, and they do not know their database: give a (tables, engine) pair, or an App")
    parts = {name: getattr(found, name) for name in _STORES if getattr(found, name, None) is not None}
    return App(**parts) if parts else None


def _takes_nothing(found: Any) -> bool:
    free = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    try:
        taken = signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(one.default is not Parameter.empty or one.kind in free for one in taken)


def _kind(found: Any) -> str:
    return "a function that wants arguments" if callable(found) and not isinstance(found, type) else f"a {type(found).__name__}"


# --- its database --------------------------------------------------------------------------------------------------------


async def _checked(app: App, needs: str) -> None:
    """Raise `SchemaError` unless the tables that this command touches are as they are needed."""
    if app.tables is None or needs == "pipelines":
        return
    from sqlalchemy.ext.asyncio import AsyncEngine

    from finresilience.sql.checking import acheck, check

    of = {"idempotency": (app.tables.idempotency.table,), "inbox": app.tables.inbox.tables}
    tables = of.get(needs, app.tables.outbox.tables)
    if isinstance(app.engine, AsyncEngine):
        await acheck(tables, app.engine)
    elif app.engine is not None:
        check(tables, app.engine)


async def _disposed(app: App) -> None:
    """Close the connections of an async engine while its loop still runs: afterwards nobody can."""
    if iscoroutinefunction(dispose := getattr(app.engine, "dispose", None)):
        await dispose()
