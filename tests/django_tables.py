"""The tables of Django's migrations, for tests that need them: made by repeating what one migration run did."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.db import connections, transaction

#: The statements that were run, for each kind of database.
_NOTED: dict[str, list[tuple[str, Any]]] = {}
_WRITES = ("ALTER", "CREATE", "DROP", "INSERT", "UPDATE")


def migrate(alias: str) -> None:
    """Create the tables in an empty database, as ``migrate tokenguard`` does.

    Most of its time goes into working out what to run, so that is done once, and later the same statements are run.
    """
    connection = connections[alias]
    noted = _NOTED.get(connection.vendor)
    if noted is None:
        _NOTED[connection.vendor] = _noting(alias)
        return
    with transaction.atomic(alias), connection.cursor() as cursor:
        for statement, parameters in noted:
            cursor.execute(statement, parameters)


def _noting(alias: str) -> list[tuple[str, Any]]:
    noted = []

    def note(execute: Any, statement: str, parameters: Any, many: bool, context: Any) -> Any:
        if statement.lstrip().startswith(_WRITES):
            noted.append((statement, parameters))
        return execute(statement, parameters, many, context)

    with connections[alias].execute_wrapper(note):
        call_command("migrate", "tokenguard", database=alias, verbosity=0)
    return noted
