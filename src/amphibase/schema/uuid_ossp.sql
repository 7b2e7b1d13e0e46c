-- What uuid-ossp has, for servers that lack it: the same names, arguments and values
-- (https://www.postgresql.org/docs/current/uuid-ossp.html; RFC 9562).

CREATE OR REPLACE FUNCTION extensions.uuid_generate_v4() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE RETURN pg_catalog.gen_random_uuid();

-- Of time, a random clock sequence and a random node, which is marked as none of a network card. The
-- last eight bytes of a random UUID have the variant already.
CREATE OR REPLACE FUNCTION extensions.uuid_generate_v1mc() RETURNS uuid
    LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
DECLARE
    -- In units of 100 ns since 15 October 1582.
    ticks CONSTANT bytea := int8send(
        (extract(epoch FROM clock_timestamp()) * 10000000)::int8 + 122192928000000000
    );
    random CONSTANT bytea := substr(uuid_send(pg_catalog.gen_random_uuid()), 9);
BEGIN
    RETURN encode(
        substr(ticks, 5, 4) || substr(ticks, 3, 2)
        || set_byte(substr(ticks, 1, 2), 0, get_byte(ticks, 0) | 16)
        || set_byte(random, 2, get_byte(random, 2) | 1),
        'hex'
    )::uuid;
END $$;

-- The address of a network card is in none here.
CREATE OR REPLACE FUNCTION extensions.uuid_generate_v1() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE RETURN extensions.uuid_generate_v1mc();

-- A hash as a UUID of a version.
CREATE OR REPLACE FUNCTION extensions.uuid_ossp_hashed(hash bytea, version int) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN encode(
        substr(
            set_byte(
                set_byte(hash, 6, (get_byte(hash, 6) & 15) | (version << 4)),
                8, (get_byte(hash, 8) & 63) | 128
            ),
            1, 16
        ),
        'hex'
    )::uuid;

CREATE OR REPLACE FUNCTION extensions.uuid_generate_v3(namespace uuid, name text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN extensions.uuid_ossp_hashed(
        extensions.digest(uuid_send(namespace) || convert_to(name, 'UTF8'), 'md5'), 3
    );

CREATE OR REPLACE FUNCTION extensions.uuid_generate_v5(namespace uuid, name text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN extensions.uuid_ossp_hashed(
        extensions.digest(uuid_send(namespace) || convert_to(name, 'UTF8'), 'sha1'), 5
    );

CREATE OR REPLACE FUNCTION extensions.uuid_nil() RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '00000000-0000-0000-0000-000000000000'::uuid;

CREATE OR REPLACE FUNCTION extensions.uuid_ns_dns() RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE OR REPLACE FUNCTION extensions.uuid_ns_url() RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE OR REPLACE FUNCTION extensions.uuid_ns_oid() RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE OR REPLACE FUNCTION extensions.uuid_ns_x500() RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::uuid;
