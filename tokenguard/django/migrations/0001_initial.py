"""Clients, tokens, and the events that record every change of them."""

from django.db import migrations, models

from ..upgrade import step


class Migration(migrations.Migration):
    initial = True
    dependencies = ()
    operations = (
        migrations.SeparateDatabaseAndState(
            database_operations=(step(1),),
            state_operations=(
                migrations.CreateModel(
                    "Client",
                    (
                        ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                        ("name", models.CharField(max_length=100)),
                        ("scopes", models.TextField()),
                        ("enabled", models.BooleanField()),
                        ("created_at", models.BigIntegerField()),
                    ),
                    {
                        "db_table": "tokenguard_client",
                        "ordering": ("name",),
                        "constraints": (models.UniqueConstraint(fields=("name",), name="tokenguard_client_name"),),
                    },
                ),
                migrations.CreateModel(
                    "Token",
                    (
                        ("id", models.CharField(max_length=16, primary_key=True, serialize=False)),
                        (
                            "client",
                            models.ForeignKey(
                                "tokenguard.client", models.DO_NOTHING, related_name="tokens", db_index=False
                            ),
                        ),
                        ("name", models.CharField(max_length=100)),
                        ("scopes", models.TextField()),
                        ("digest", models.CharField(max_length=64)),
                        ("key_fingerprint", models.CharField(max_length=16)),
                        ("created_at", models.BigIntegerField()),
                        ("expires_at", models.BigIntegerField(null=True)),
                        ("revoked_at", models.BigIntegerField(null=True)),
                    ),
                    {
                        "db_table": "tokenguard_token",
                        "ordering": ("created_at", "id"),
                        "indexes": (models.Index(fields=("client", "created_at"), name="tokenguard_token_client"),),
                    },
                ),
                migrations.CreateModel(
                    "Event",
                    (
                        ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                        ("id", models.CharField(max_length=16)),
                        ("kind", models.CharField(max_length=64)),
                        ("at", models.BigIntegerField()),
                        ("actor", models.CharField(max_length=255)),
                        ("client_id", models.CharField(max_length=255)),
                        ("token_id", models.CharField(max_length=16, null=True)),
                        ("data", models.TextField()),
                    ),
                    {
                        "db_table": "tokenguard_event",
                        "ordering": ("number",),
                        "constraints": (models.UniqueConstraint(fields=("id",), name="tokenguard_event_id"),),
                        "indexes": (
                            models.Index(fields=("client_id", "number"), name="tokenguard_event_client"),
                            models.Index(fields=("token_id", "number"), name="tokenguard_event_token"),
                        ),
                    },
                ),
                migrations.CreateModel(
                    "Revision",
                    (
                        ("id", models.IntegerField(primary_key=True, serialize=False)),
                        ("revision", models.BigIntegerField()),
                        ("schema_version", models.IntegerField()),
                    ),
                    {"db_table": "tokenguard_revision"},
                ),
            ),
        ),
    )
