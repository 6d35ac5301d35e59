from django.db import models

from . import tables

for number in range(tables.TABLES):
    members = dict(tables.fields(number))
    members["__module__"] = __name__
    members["Meta"] = type("Meta", (), tables.options(number))
    globals()[tables.name(number)] = type(tables.name(number), (models.Model,), members)
