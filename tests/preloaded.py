"""What most commands do first and each would do anew: the process that they are forked from does it
once, by importing this."""

from amphibase.schema.tables import tables
from amphibase.settings.application import Settings

for dialect in ("sqlite", "postgresql"):
    tables(dialect)
Settings.model_rebuild()  # its fields become a validator when it is used first
