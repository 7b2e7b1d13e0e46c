"""Sign-in through third parties (OAuth 2.0, OpenID Connect): where they are, whom they name."""
