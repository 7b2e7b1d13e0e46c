"""Sign-in through third parties: OAuth 2.0 and OpenID Connect."""
