"""The tables of ``schema.py`` as Django models: to read, to filter and to join.

Only the issuer and the store write to them, each change with its event: if a row were saved in another way, no other
process would hear of the change. So these models do not save or delete.

Times are epoch microseconds, and scopes and conditions are JSON text, for both frameworks alike. ``DjangoStore``
returns them decoded.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models


class ReadOnlyError(TypeError):
    """Raised for an attempt to save or delete what only the issuer and the store write."""

    def __init__(self) -> None:
        super().__init__(
            "clients, tokens and events cannot be saved or deleted as models: no other process would notice. "
            "Use tokenguard.django.get_issuer()"
        )


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise ReadOnlyError


class _Rows(models.QuerySet[Any]):
    """Rows that can only be read. The store writes through ``_base_manager``."""

    create = bulk_create = get_or_create = update_or_create = _refuse
    update = bulk_update = delete = _refuse
    acreate = abulk_create = aget_or_create = aupdate_or_create = _refuse
    aupdate = abulk_update = adelete = _refuse


class _ReadOnly(models.Model):
    objects = _Rows.as_manager()

    class Meta:
        abstract = True

    save = delete = asave = adelete = _refuse


class Client(_ReadOnly):
    """An application that may hold tokens."""

    id = models.CharField(primary_key=True, max_length=255)
    name = models.CharField(max_length=100)
    scopes = models.TextField()
    enabled = models.BooleanField()
    created_at = models.BigIntegerField()
    conditions = models.TextField(default="{}")

    class Meta:
        db_table = "tokenguard_client"
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("name",), name="tokenguard_client_name"),)

    def __str__(self) -> str:
        return self.name


class Token(_ReadOnly):
    """One credential of a client, without its text."""

    id = models.CharField(primary_key=True, max_length=16)
    client = models.ForeignKey(Client, models.DO_NOTHING, related_name="tokens", db_index=False)
    name = models.CharField(max_length=100)
    scopes = models.TextField()
    digest = models.CharField(max_length=64)
    key_fingerprint = models.CharField(max_length=16)
    created_at = models.BigIntegerField()
    expires_at = models.BigIntegerField(null=True)
    revoked_at = models.BigIntegerField(null=True)
    conditions = models.TextField(default="{}")
    idle_timeout = models.BigIntegerField(null=True)
    idle_ended_at = models.BigIntegerField(null=True)
    successor_id = models.CharField(max_length=16, null=True)
    overlap_ends_at = models.BigIntegerField(null=True)

    class Meta:
        db_table = "tokenguard_token"
        ordering = ("created_at", "id")
        indexes = (
            models.Index(fields=("client", "created_at"), name="tokenguard_token_client"),
            models.Index(fields=("created_at", "id"), name="tokenguard_token_created"),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.id})" if self.name else self.id


class Use(_ReadOnly):
    """What is known of a token's use."""

    token = models.OneToOneField(Token, models.DO_NOTHING, primary_key=True, related_name="use", db_constraint=False)
    last_used_at = models.BigIntegerField()
    address = models.CharField(max_length=64)
    scopes = models.TextField()

    class Meta:
        db_table = "tokenguard_use"

    def __str__(self) -> str:
        return self.token_id


class UseDay(_ReadOnly):
    """How many requests were let in with a token on one day (days since the epoch, UTC)."""

    pk = models.CompositePrimaryKey("token_id", "day")
    token_id = models.CharField(max_length=16)
    day = models.IntegerField()
    requests = models.BigIntegerField()

    class Meta:
        db_table = "tokenguard_use_day"
        indexes = (models.Index(fields=("day",), name="tokenguard_use_day_day"),)

    def __str__(self) -> str:
        return f"{self.token_id}, day {self.day}"


class Event(_ReadOnly):
    """One change that was made, numbered without gaps. The client or token that it names may be gone by now."""

    number = models.BigIntegerField(primary_key=True)
    id = models.CharField(max_length=16)
    kind = models.CharField(max_length=64)
    at = models.BigIntegerField()
    actor = models.CharField(max_length=255)
    client_id = models.CharField(max_length=255)
    token_id = models.CharField(max_length=16, null=True)
    data = models.TextField()

    class Meta:
        db_table = "tokenguard_event"
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=("id",), name="tokenguard_event_id"),)
        indexes = (
            models.Index(fields=("client_id", "number"), name="tokenguard_event_client"),
            models.Index(fields=("token_id", "number"), name="tokenguard_event_token"),
        )

    def __str__(self) -> str:
        return f"{self.number}: {self.kind}"


class Revision(_ReadOnly):
    """The one row of the event counter, and the version of the schema."""

    id = models.IntegerField(primary_key=True)
    revision = models.BigIntegerField()
    schema_version = models.IntegerField()

    class Meta:
        db_table = "tokenguard_revision"

    def __str__(self) -> str:
        return str(self.revision)
