"""The errors of Auth: status, code and message of each, in one table.

The codes are those of Supabase Auth (https://supabase.com/docs/guides/auth/debugging/error-codes);
where it uses one code with several statuses, each has a name of its own here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One error.

    Args:
        code: the word by which clients distinguish it.
        message: for people; an error may bring one of its own.
    """

    status: int
    code: str
    message: str


# Requests
BAD_JSON = ErrorCode(400, "bad_json", "Could not parse request body as JSON")
VALIDATION_FAILED = ErrorCode(400, "validation_failed", "The request is not valid")
NOT_AN_ID = ErrorCode(404, "validation_failed", "The id must be an UUID")
BODY_TOO_LARGE = ErrorCode(413, "validation_failed", "The request's body is too large")
REQUEST_TIMEOUT = ErrorCode(408, "request_timeout", "The request's body did not come in time")
REQUEST_RATE_LIMIT = ErrorCode(429, "over_request_rate_limit", "Request rate limit reached")
EMAIL_RATE_LIMIT = ErrorCode(
    429, "over_email_send_rate_limit", "For security purposes, you can only request this later."
)
SMS_RATE_LIMIT = ErrorCode(
    429, "over_sms_send_rate_limit", "For security purposes, you can only request this later."
)
EMAIL_QUOTA = ErrorCode(429, "over_email_send_rate_limit", "email rate limit exceeded")
SMS_QUOTA = ErrorCode(429, "over_sms_send_rate_limit", "SMS rate limit exceeded")
CONFLICT = ErrorCode(409, "conflict", "The request conflicts with what is stored")
UNEXPECTED_FAILURE = ErrorCode(
    500, "unexpected_failure", "Unexpected failure, please check server logs for more information"
)
REJECTED_BY_HOOK = ErrorCode(400, "unknown", "A hook rejected the request")
HOOK_TIMEOUT = ErrorCode(422, "hook_timeout", "A hook did not respond in time")
HOOK_TIMEOUT_AFTER_RETRY = ErrorCode(
    422, "hook_timeout_after_retry", "Failed to reach hook after maximum retries"
)
HOOK_CONTENT_TYPE = ErrorCode(
    400, "hook_payload_invalid_content_type", "Invalid JSON response of a hook"
)
HOOK_PAYLOAD_TOO_LARGE = ErrorCode(
    422, "hook_payload_over_size_limit", "The response of a hook is too large"
)

# Bearers of tokens
NO_AUTHORIZATION = ErrorCode(401, "no_authorization", "This endpoint requires a valid Bearer token")
ANONYMOUS_NOT_ALLOWED = ErrorCode(
    403, "no_authorization", "Anonymous user not allowed to perform these actions"
)
UNEXPECTED_AUDIENCE = ErrorCode(
    403, "unexpected_audience", "Token audience doesn't match request audience"
)
BAD_JWT = ErrorCode(403, "bad_jwt", "invalid JWT")
NOT_ADMIN = ErrorCode(403, "not_admin", "User not allowed")
TOKEN_USER_NOT_FOUND = ErrorCode(403, "user_not_found", "User from sub claim in JWT does not exist")
SESSION_NOT_FOUND = ErrorCode(
    403, "session_not_found", "Session from session_id claim in JWT does not exist"
)
ADMIN_SESSION_EXPIRED = ErrorCode(403, "session_expired", "Session is no longer valid")
USER_BANNED = ErrorCode(403, "user_banned", "User is banned")
INSUFFICIENT_AAL = ErrorCode(403, "insufficient_aal", "AAL2 session is required")

# Sign-up
SIGNUP_DISABLED = ErrorCode(422, "signup_disabled", "Signups not allowed for this instance")
EMAIL_SIGNUP_DISABLED = ErrorCode(400, "email_provider_disabled", "Email signups are disabled")
ANONYMOUS_DISABLED = ErrorCode(
    422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled"
)
USER_ALREADY_EXISTS = ErrorCode(422, "user_already_exists", "User already registered")
WEAK_PASSWORD = ErrorCode(422, "weak_password", "The password is too weak")

# Sign-in
INVALID_CREDENTIALS = ErrorCode(400, "invalid_credentials", "Invalid login credentials")
UNSUPPORTED_GRANT = ErrorCode(400, "invalid_credentials", "unsupported_grant_type")
EMAIL_NOT_CONFIRMED = ErrorCode(400, "email_not_confirmed", "Email not confirmed")
PHONE_NOT_CONFIRMED = ErrorCode(400, "phone_not_confirmed", "Phone not confirmed")
SIGN_IN_BANNED = ErrorCode(400, "user_banned", "User is banned")
EMAIL_LOGIN_DISABLED = ErrorCode(422, "email_provider_disabled", "Email logins are disabled")
PHONE_SIGNUP_DISABLED = ErrorCode(400, "phone_provider_disabled", "Phone signups are disabled")
PHONE_LOGIN_DISABLED = ErrorCode(422, "phone_provider_disabled", "Phone logins are disabled")
PHONE_DISABLED = ErrorCode(400, "phone_provider_disabled", "Unsupported phone provider")
NO_SMS_PROVIDER = ErrorCode(500, "unexpected_failure", "Unable to get SMS provider")
PROVIDER_DISABLED = ErrorCode(400, "provider_disabled", "Provider is not enabled")
OTP_DISABLED = ErrorCode(422, "otp_disabled", "Signups not allowed for otp")
OTP_EXPIRED = ErrorCode(403, "otp_expired", "Token has expired or is invalid")
SAML_DISABLED = ErrorCode(404, "saml_provider_disabled", "SAML 2.0 is disabled")
OAUTH_SERVER_DISABLED = ErrorCode(404, "feature_disabled", "OAuth server is disabled")
CUSTOM_PROVIDERS_DISABLED = ErrorCode(
    404, "feature_disabled", "Custom OAuth providers are disabled"
)
CUSTOM_PROVIDER_QUOTA = ErrorCode(
    400,
    "over_custom_provider_quota",
    "Maximum number of custom OAuth/OIDC providers reached",
)
CUSTOM_PROVIDER_NOT_FOUND = ErrorCode(
    404, "custom_provider_not_found", "Custom OAuth provider not found"
)
SCIM_DISABLED = ErrorCode(404, "feature_disabled", "SCIM server is disabled")
PASSKEYS_DISABLED = ErrorCode(404, "passkey_disabled", "Passkeys are disabled")
SSO_PROVIDER_NOT_FOUND = ErrorCode(404, "sso_provider_not_found", "SSO Identity Provider not found")
WEB3_DISABLED = ErrorCode(422, "web3_provider_disabled", "Web3 provider is disabled")

# Refresh tokens
REFRESH_TOKEN_NOT_FOUND = ErrorCode(
    400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found"
)
REFRESH_TOKEN_USED = ErrorCode(
    400, "refresh_token_already_used", "Invalid Refresh Token: Already Used"
)
SESSION_EXPIRED = ErrorCode(400, "session_expired", "Invalid Refresh Token: Session Expired")
SESSION_INACTIVE = ErrorCode(
    400, "session_expired", "Invalid Refresh Token: Session Expired (Inactivity)"
)
SESSION_WEAK = ErrorCode(
    400,
    "session_expired",
    "Invalid Refresh Token: Session Expired (Low AAL: User Needs MFA Verification)",
)
SESSION_SUPERSEDED = ErrorCode(
    400, "session_expired", "Invalid Refresh Token: Session Expired (Revoked by Newer Login)"
)
REFRESH_BANNED = ErrorCode(400, "user_banned", "Invalid Refresh Token: User Banned")

# PKCE
FLOW_STATE_NOT_FOUND = ErrorCode(
    404, "flow_state_not_found", "invalid flow state, no valid flow state found"
)
FLOW_STATE_MISSING = ErrorCode(
    400,
    "flow_state_not_found",
    "No associated flow state found. 422: No valid flow state found for user.",
)
FLOW_STATE_EXPIRED = ErrorCode(
    422, "flow_state_expired", "invalid flow state, flow state has expired"
)
CAPTCHA_FAILED = ErrorCode(400, "captcha_failed", "captcha protection: request disallowed")
INVITE_NOT_FOUND = ErrorCode(404, "invite_not_found", "Invite not found")
BAD_OAUTH_STATE = ErrorCode(400, "bad_oauth_state", "OAuth state not found or expired")
BAD_OAUTH_CALLBACK = ErrorCode(
    400, "bad_oauth_callback", "OAuth callback with missing authorization code missing"
)
OAUTH_CALLBACK_FAILED = ErrorCode(
    500, "unexpected_failure", "Error getting user profile from external provider"
)
OAUTH_NO_EMAIL = ErrorCode(
    500, "unexpected_failure", "Error getting user email from external provider"
)
PROVIDER_EMAIL_UNVERIFIED = ErrorCode(
    422, "provider_email_needs_verification", "The provider has not verified the email address"
)
IDENTITY_EXISTS = ErrorCode(422, "identity_already_exists", "Identity is already linked")
BAD_CODE_VERIFIER = ErrorCode(
    400, "bad_code_verifier", "code challenge does not match previously saved code verifier"
)

# Users
USER_NOT_FOUND = ErrorCode(404, "user_not_found", "User not found")
EMAIL_EXISTS = ErrorCode(
    422, "email_exists", "A user with this email address has already been registered"
)
PHONE_EXISTS = ErrorCode(422, "phone_exists", "Phone number already registered by another user")
ID_EXISTS = ErrorCode(422, "conflict", "A user with this id exists already")
USER_SSO_MANAGED = ErrorCode(
    422,
    "user_sso_managed",
    "Updating email, phone, password of a SSO account only possible via SSO",
)
SAME_PASSWORD = ErrorCode(
    422, "same_password", "New password should be different from the old password."
)
CURRENT_PASSWORD_REQUIRED = ErrorCode(
    400, "current_password_required", "Current password required when setting new password."
)
CURRENT_PASSWORD_INVALID = ErrorCode(
    400, "current_password_invalid", "Current password required when setting new password."
)
REAUTHENTICATION_NEEDED = ErrorCode(
    400, "reauthentication_needed", "Password update requires reauthentication"
)
REAUTHENTICATION_NOT_VALID = ErrorCode(
    422, "reauthentication_not_valid", "Nonce has expired or is invalid"
)
REAUTHENTICATION_UNCONFIRMED = ErrorCode(
    422, "email_not_confirmed", "Please verify your email first."
)
REAUTHENTICATION_PHONE_UNCONFIRMED = ErrorCode(
    422, "phone_not_confirmed", "Please verify your phone first."
)
MANUAL_LINKING_DISABLED = ErrorCode(404, "manual_linking_disabled", "Manual linking is disabled")
SINGLE_IDENTITY = ErrorCode(
    422,
    "single_identity_not_deletable",
    "User must have at least 1 identity after unlinking",
)
EMAIL_CONFLICT = ErrorCode(
    422,
    "email_conflict_identity_not_deletable",
    "Unable to unlink identity due to email conflict",
)
IDENTITY_NOT_FOUND = ErrorCode(422, "identity_not_found", "Identity doesn't exist")

# Second factors
MFA_NO_SESSION = ErrorCode(
    500,
    "unexpected_failure",
    "A valid session and a registered user are required to enroll a factor",
)
MFA_FACTOR_NOT_FOUND = ErrorCode(404, "mfa_factor_not_found", "Factor not found")
MFA_CHALLENGE_NOT_FOUND = ErrorCode(
    422, "mfa_factor_not_found", "MFA factor with the provided challenge ID not found"
)
MFA_FACTOR_NAME_CONFLICT = ErrorCode(
    422, "mfa_factor_name_conflict", "A factor with this friendly name already exists"
)
MFA_TOO_MANY_FACTORS = ErrorCode(
    422,
    "too_many_enrolled_mfa_factors",
    "Maximum number of verified factors reached, unenroll to continue",
)
MFA_TOTP_ENROLL_DISABLED = ErrorCode(
    422, "mfa_totp_enroll_not_enabled", "MFA enroll is disabled for TOTP"
)
MFA_PHONE_ENROLL_DISABLED = ErrorCode(
    422, "mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone"
)
MFA_WEBAUTHN_ENROLL_DISABLED = ErrorCode(
    422, "mfa_webauthn_enroll_not_enabled", "MFA enroll is disabled for WebAuthn"
)
MFA_TOTP_VERIFY_DISABLED = ErrorCode(
    422, "mfa_totp_verify_not_enabled", "MFA verification is disabled for TOTP"
)
MFA_PHONE_VERIFY_DISABLED = ErrorCode(
    422, "mfa_phone_verify_not_enabled", "MFA verification is disabled for Phone"
)
MFA_WEBAUTHN_VERIFY_DISABLED = ErrorCode(
    422, "mfa_webauthn_verify_not_enabled", "MFA verification is disabled for WebAuthn"
)
MFA_IP_ADDRESS_MISMATCH = ErrorCode(
    422, "mfa_ip_address_mismatch", "Challenge and verify IP addresses mismatch."
)
MFA_CHALLENGE_EXPIRED = ErrorCode(422, "mfa_challenge_expired", "MFA challenge has expired")
MFA_VERIFICATION_REJECTED = ErrorCode(
    403, "mfa_verification_rejected", "Further MFA verification attempts will be rejected."
)
MFA_VERIFIED_FACTOR_EXISTS = ErrorCode(
    422,
    "mfa_verified_factor_exists",
    "A verified phone factor already exists, unenroll the existing factor to continue",
)
MFA_PHONE_VERIFICATION_FAILED = ErrorCode(
    422, "mfa_verification_failed", "Invalid MFA Phone code entered"
)
MFA_VERIFICATION_FAILED = ErrorCode(422, "mfa_verification_failed", "Invalid TOTP code entered")
