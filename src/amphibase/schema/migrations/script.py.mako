${docstring}
% if imports:

${"\n".join(imports)}
% endif

revision = "${up_revision}"
down_revision = ${'"%s"' % down_revision if isinstance(down_revision, str) else repr(down_revision)}


def upgrade() -> None:
${upgrades}


def downgrade() -> None:
${downgrades}
