CREATE ROLE cook NOLOGIN;
GRANT cook TO authenticator;
