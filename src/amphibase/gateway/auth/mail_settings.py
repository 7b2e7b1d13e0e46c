"""The subjects and templates of a project's own emails."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from amphibase.gateway.auth.go_template import GoTemplate
from amphibase.settings_loading import LoadedSettings


def _check_template(value: str | None) -> str | None:
    if value is not None:
        GoTemplate(value)
    return value


TemplateText = Annotated[str | None, AfterValidator(_check_template)]


def _subject() -> Any:
    return Field(None, examples=["Welcome to the bakery"])


def _template(name: str) -> Any:
    """Return a field whose variable is not that of Supabase Auth, which is a URL there."""
    variable = f"GATEWAY_MAILER_TEMPLATE_{name.upper()}"
    return Field(None, validation_alias=variable, examples=["<a href=…>Follow this link</a>"])


class MailSettings(LoadedSettings):
    """What emails say instead of the texts that are built in, by the kinds of Supabase Auth."""

    mailer_subjects_invite: TemplateText = _subject()
    mailer_subjects_confirmation: TemplateText = _subject()
    mailer_subjects_recovery: TemplateText = _subject()
    mailer_subjects_magic_link: TemplateText = _subject()
    mailer_subjects_email_change: TemplateText = _subject()
    mailer_subjects_reauthentication: TemplateText = _subject()

    mailer_template_invite: TemplateText = _template("invite")
    mailer_template_confirmation: TemplateText = _template("confirmation")
    mailer_template_recovery: TemplateText = _template("recovery")
    mailer_template_magic_link: TemplateText = _template("magic_link")
    mailer_template_email_change: TemplateText = _template("email_change")
    mailer_template_reauthentication: TemplateText = _template("reauthentication")
