"""Who may do what with a model's rows: one declaration, enforced by every backend.

    class Note(Owned, Base): ...                              # its owner alone
    class Post(PublicRead, Base): ...                         # everyone reads, the owner writes
    class Rate(Base):
        __access__ = Access(read=authenticated, write=admin)  # in words
    class Secret(Base): ...                                   # undeclared: the service alone

Rules compose: `owner | admin` admits both, `authenticated & published` needs both. The service may
do everything, always.
"""

from amphibase.access.caller import me as me
from amphibase.access.rules import OWNER_COLUMN as OWNER_COLUMN
from amphibase.access.rules import SERVER_ONLY as SERVER_ONLY
from amphibase.access.rules import Access as Access
from amphibase.access.rules import Add as Add
from amphibase.access.rules import CallerRule as CallerRule
from amphibase.access.rules import Change as Change
from amphibase.access.rules import Operation as Operation
from amphibase.access.rules import Rule as Rule
from amphibase.access.rules import Who as Who
from amphibase.access.rules import admin as admin
from amphibase.access.rules import authenticated as authenticated
from amphibase.access.rules import declaration_of as declaration_of
from amphibase.access.rules import everyone as everyone
from amphibase.access.rules import owner as owner
from amphibase.access.rules import rule as rule
from amphibase.access.rules import service as service
from amphibase.access.rules import through as through
from amphibase.access.scopes import Scope as Scope
from amphibase.access.scopes import memberships as memberships
