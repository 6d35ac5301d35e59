"""The thirty tables of bench/src/schema.rs, once for the models and once for the migration."""

from django.db import models

TABLES = 30


def name(number):
    return f"Item{number:02}"


def fields(number):
    found = [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=200)),
        ("email", models.CharField(max_length=254)),
        ("status", models.CharField(max_length=20)),
        ("amount", models.DecimalField(max_digits=12, decimal_places=2)),
        ("payload", models.JSONField()),
        ("created_at", models.DateTimeField()),
    ]
    if number > 0:
        found.append(("previous", models.ForeignKey(f"items.{name(number - 1)}", null=True, on_delete=models.CASCADE)))
    return found


def options(number):
    return {
        "indexes": [
            models.Index(fields=["status", "created_at"], name=f"item_{number:02}_status"),
            models.Index(fields=["email"], name=f"item_{number:02}_email"),
        ]
    }
