"""An index by which pruning finds the days that are old."""

from django.db import migrations, models

from ..upgrade import step


class Migration(migrations.Migration):
    dependencies = (("tokenguard", "0002_life"),)
    operations = (
        migrations.SeparateDatabaseAndState(
            database_operations=(step(3),),
            state_operations=(
                migrations.AddIndex("useday", models.Index(fields=("day",), name="tokenguard_use_day_day")),
            ),
        ),
    )
