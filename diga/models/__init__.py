"""Networks by name; a new one is one file and one line here."""

from diga.models.streetnet import streetnet as streetnet
