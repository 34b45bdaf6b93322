"""Idle expiry, rotation, conditions, and what is known of a token's use."""

from django.db import migrations, models

from ..upgrade import step


class Migration(migrations.Migration):
    dependencies = (("tokenguard", "0001_initial"),)
    operations = (
        migrations.SeparateDatabaseAndState(
            database_operations=(step(2),),
            state_operations=(
                migrations.AddField("client", "conditions", models.TextField(default="{}")),
                migrations.AddField("token", "conditions", models.TextField(default="{}")),
                migrations.AddField("token", "idle_timeout", models.BigIntegerField(null=True)),
                migrations.AddField("token", "idle_ended_at", models.BigIntegerField(null=True)),
                migrations.AddField("token", "successor_id", models.CharField(max_length=16, null=True)),
                migrations.AddField("token", "overlap_ends_at", models.BigIntegerField(null=True)),
                migrations.AddIndex(
                    "token", models.Index(fields=("created_at", "id"), name="tokenguard_token_created")
                ),
                migrations.CreateModel(
                    "Use",
                    (
                        (
                            "token",
                            models.OneToOneField(
                                "tokenguard.token",
                                models.DO_NOTHING,
                                primary_key=True,
                                related_name="use",
                                db_constraint=False,
                                serialize=False,
                            ),
                        ),
                        ("last_used_at", models.BigIntegerField()),
                        ("address", models.CharField(max_length=64)),
                        ("scopes", models.TextField()),
                    ),
                    {"db_table": "tokenguard_use"},
                ),
                migrations.CreateModel(
                    "UseDay",
                    (
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "token_id", "day", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("token_id", models.CharField(max_length=16)),
                        ("day", models.IntegerField()),
                        ("requests", models.BigIntegerField()),
                    ),
                    {"db_table": "tokenguard_use_day"},
                ),
            ),
        ),
    )
