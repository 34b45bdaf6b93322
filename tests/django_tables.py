"""The tables that Django's migrations make, for tests that need them: made by what the migrations once have said."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.db import connections, transaction

#: What was run for each kind of database.
_NOTED: dict[str, list[tuple[str, Any]]] = {}
_WRITES = ("ALTER", "CREATE", "DROP", "INSERT", "UPDATE")


def migrate(alias: str) -> None:
    """As ``migrate tokenguard`` does in an empty database.

    Most of its time goes into working out what to run, so that is done once, and what it has run is run again.
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
