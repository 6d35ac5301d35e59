from django.db import migrations

from items import tables


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(name=tables.name(number), fields=tables.fields(number), options=tables.options(number))
        for number in range(tables.TABLES)
    ]
