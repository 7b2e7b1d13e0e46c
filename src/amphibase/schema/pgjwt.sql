-- What pgjwt has, for servers that lack it: the same names, arguments and values
-- (https://github.com/michelp/pgjwt). It signs with HMAC alone.

CREATE OR REPLACE FUNCTION extensions.url_encode(data bytea) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN translate(encode(data, 'base64'), E'+/=\n', '-_');

CREATE OR REPLACE FUNCTION extensions.url_decode(data text) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    RETURN decode(
        rpad(translate(data, '-_', '+/'), (length(data) + 3) / 4 * 4, '='), 'base64'
    );

CREATE OR REPLACE FUNCTION extensions.algorithm_sign(signables text, secret text, algorithm text)
    RETURNS text LANGUAGE sql IMMUTABLE
    RETURN extensions.url_encode(extensions.hmac(
        signables,
        secret,
        CASE algorithm WHEN 'HS256' THEN 'sha256' WHEN 'HS384' THEN 'sha384'
            WHEN 'HS512' THEN 'sha512' ELSE '' END  -- hmac() rejects the last
    ));

CREATE OR REPLACE FUNCTION extensions.sign(
    payload json, secret text, algorithm text DEFAULT 'HS256'
) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    signables text := extensions.url_encode(
            convert_to(format('{"alg":"%s","typ":"JWT"}', algorithm), 'utf8')
        ) || '.' || extensions.url_encode(convert_to(payload::text, 'utf8'));
BEGIN
    RETURN signables || '.' || extensions.algorithm_sign(signables, secret, algorithm);
END $$;

CREATE OR REPLACE FUNCTION extensions.try_cast_double(inp text) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN inp::double precision;
EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION extensions.verify(
    token text, secret text, algorithm text DEFAULT 'HS256'
) RETURNS TABLE (header json, payload json, valid boolean) LANGUAGE plpgsql STABLE AS $$
DECLARE
    parts text[] := string_to_array(token, '.');
BEGIN
    header := convert_from(extensions.url_decode(parts[1]), 'utf8')::json;
    payload := convert_from(extensions.url_decode(parts[2]), 'utf8')::json;
    valid := parts[3] = extensions.algorithm_sign(parts[1] || '.' || parts[2], secret, algorithm)
        AND extract(epoch FROM now()) >= coalesce(
            extensions.try_cast_double(payload ->> 'nbf'), '-infinity'
        )
        AND extract(epoch FROM now()) < coalesce(
            extensions.try_cast_double(payload ->> 'exp'), 'infinity'
        );
    RETURN NEXT;
END $$;
