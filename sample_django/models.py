"""The directory's tables. All times are epoch milliseconds, the precision of Okta's dates."""

from __future__ import annotations

from django.db import models


class User(models.Model):
    """A person of the directory; nobody who can log in here."""

    id = models.CharField(primary_key=True, max_length=20)
    login_key = models.CharField("login", max_length=100, unique=True)
    status = models.CharField(max_length=20)
    profile = models.JSONField()
    created = models.BigIntegerField()
    activated = models.BigIntegerField(null=True)
    status_changed = models.BigIntegerField(null=True)
    last_updated = models.BigIntegerField()

    objects: models.Manager[User] = models.Manager()

    def __str__(self) -> str:
        return self.login_key


class Group(models.Model):
    """A group of people."""

    id = models.CharField(primary_key=True, max_length=20)
    name = models.CharField(max_length=255, unique=True)
    description = models.CharField(max_length=1024)
    created = models.BigIntegerField()
    last_updated = models.BigIntegerField()
    last_membership_updated = models.BigIntegerField()

    objects: models.Manager[Group] = models.Manager()

    def __str__(self) -> str:
        return self.name
