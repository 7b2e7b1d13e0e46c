"""The subjects and templates of a project's own emails."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from amphibase.gateway.auth.email_names import EMAILS, NOTIFICATIONS
from amphibase.gateway.auth.go_template import GoTemplate
from amphibase.settings.loading import LoadedSettings


def _check_template(value: str | None) -> str | None:
    if value is not None:
        GoTemplate(value)
    return value


def _check_url(value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://", "/")):
        raise ValueError("must be a URL, or a path of the site's URL that begins with /")
    return value


TemplateText = Annotated[str | None, AfterValidator(_check_template)]
TemplateUrl = Annotated[str | None, AfterValidator(_check_url)]

TEMPLATE_NAMES = (*EMAILS, *(f"{name}_notification" for name in NOTIFICATIONS))


def _enabled() -> Any:
    return Field(False, examples=["true"])


def _subject() -> Any:
    return Field(None, examples=["Welcome to the bakery"])


def _template_url() -> Any:
    return Field(None, examples=["https://example.com/invite.html"])


def _template(name: str) -> Any:
    """Return a field whose variable is not that of Supabase Auth, which is a URL there."""
    variable = f"GATEWAY_MAILER_TEMPLATE_{name.upper()}"
    return Field(None, validation_alias=variable, examples=["<a href=…>Follow this link</a>"])


class NotificationSettings(LoadedSettings):
    """Which changes of an account its owner gets to know of by email, and what the emails say."""

    mailer_notifications_password_changed_enabled: bool = _enabled()
    mailer_notifications_email_changed_enabled: bool = _enabled()
    mailer_notifications_phone_changed_enabled: bool = _enabled()
    mailer_notifications_identity_linked_enabled: bool = _enabled()
    mailer_notifications_identity_unlinked_enabled: bool = _enabled()
    mailer_notifications_mfa_factor_enrolled_enabled: bool = _enabled()
    mailer_notifications_mfa_factor_unenrolled_enabled: bool = _enabled()

    mailer_subjects_password_changed_notification: TemplateText = _subject()
    mailer_subjects_email_changed_notification: TemplateText = _subject()
    mailer_subjects_phone_changed_notification: TemplateText = _subject()
    mailer_subjects_identity_linked_notification: TemplateText = _subject()
    mailer_subjects_identity_unlinked_notification: TemplateText = _subject()
    mailer_subjects_mfa_factor_enrolled_notification: TemplateText = _subject()
    mailer_subjects_mfa_factor_unenrolled_notification: TemplateText = _subject()

    mailer_templates_password_changed_notification: TemplateUrl = _template_url()
    mailer_templates_email_changed_notification: TemplateUrl = _template_url()
    mailer_templates_phone_changed_notification: TemplateUrl = _template_url()
    mailer_templates_identity_linked_notification: TemplateUrl = _template_url()
    mailer_templates_identity_unlinked_notification: TemplateUrl = _template_url()
    mailer_templates_mfa_factor_enrolled_notification: TemplateUrl = _template_url()
    mailer_templates_mfa_factor_unenrolled_notification: TemplateUrl = _template_url()

    mailer_template_password_changed_notification: TemplateText = _template(
        "password_changed_notification"
    )
    mailer_template_email_changed_notification: TemplateText = _template(
        "email_changed_notification"
    )
    mailer_template_phone_changed_notification: TemplateText = _template(
        "phone_changed_notification"
    )
    mailer_template_identity_linked_notification: TemplateText = _template(
        "identity_linked_notification"
    )
    mailer_template_identity_unlinked_notification: TemplateText = _template(
        "identity_unlinked_notification"
    )
    mailer_template_mfa_factor_enrolled_notification: TemplateText = _template(
        "mfa_factor_enrolled_notification"
    )
    mailer_template_mfa_factor_unenrolled_notification: TemplateText = _template(
        "mfa_factor_unenrolled_notification"
    )


class MailSettings(NotificationSettings):
    """What emails say instead of the texts that are built in, by the kinds of Supabase Auth."""

    mailer_subjects_invite: TemplateText = _subject()
    mailer_subjects_confirmation: TemplateText = _subject()
    mailer_subjects_recovery: TemplateText = _subject()
    mailer_subjects_magic_link: TemplateText = _subject()
    mailer_subjects_email_change: TemplateText = _subject()
    mailer_subjects_reauthentication: TemplateText = _subject()

    mailer_templates_invite: TemplateUrl = _template_url()
    mailer_templates_confirmation: TemplateUrl = _template_url()
    mailer_templates_recovery: TemplateUrl = _template_url()
    mailer_templates_magic_link: TemplateUrl = _template_url()
    mailer_templates_email_change: TemplateUrl = _template_url()
    mailer_templates_reauthentication: TemplateUrl = _template_url()

    mailer_template_invite: TemplateText = _template("invite")
    mailer_template_confirmation: TemplateText = _template("confirmation")
    mailer_template_recovery: TemplateText = _template("recovery")
    mailer_template_magic_link: TemplateText = _template("magic_link")
    mailer_template_email_change: TemplateText = _template("email_change")
    mailer_template_reauthentication: TemplateText = _template("reauthentication")

    def template_urls(self, site_url: str) -> Mapping[str, str]:
        """Return the URLs of templates by their names; `site_url` is what a path is of."""
        urls = {name: getattr(self, f"mailer_templates_{name}") for name in TEMPLATE_NAMES}
        return {
            name: site_url.rstrip("/") + url if url.startswith("/") else url
            for name, url in urls.items()
            if url
        }
