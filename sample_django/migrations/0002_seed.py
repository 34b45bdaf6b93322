"""Fills a new directory with the people and groups that every sample starts with."""

from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from sample_flask import seed


def fill(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    users, groups = apps.get_model("directory", "User"), apps.get_model("directory", "Group")
    users.objects.bulk_create(users(**person) for person in seed.people())
    groups.objects.bulk_create(groups(**group) for group in seed.groups())


class Migration(migrations.Migration):
    dependencies = [("directory", "0001_initial")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
