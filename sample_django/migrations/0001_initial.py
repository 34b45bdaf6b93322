"""The tables of the directory."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Group",
            fields=[
                ("id", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255, unique=True)),
                ("description", models.CharField(max_length=1024)),
                ("created", models.BigIntegerField()),
                ("last_updated", models.BigIntegerField()),
                ("last_membership_updated", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="User",
            fields=[
                ("id", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("login_key", models.CharField(max_length=100, unique=True, verbose_name="login")),
                ("status", models.CharField(max_length=20)),
                ("profile", models.JSONField()),
                ("created", models.BigIntegerField()),
                ("activated", models.BigIntegerField(null=True)),
                ("status_changed", models.BigIntegerField(null=True)),
                ("last_updated", models.BigIntegerField()),
            ],
        ),
    ]
