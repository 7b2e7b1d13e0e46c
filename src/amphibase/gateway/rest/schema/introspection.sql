-- What the Data API has to know of a database. Each query stands under its name; %(schemas)s are
-- the exposed schemas. They run with an empty search_path, so that format_type() and
-- pg_get_expr() write every name outside of pg_catalog with its schema.

-- name: schemas
SELECT n.nspname::text AS name, pg_catalog.obj_description(n.oid, 'pg_namespace') AS description
FROM pg_catalog.pg_namespace n
WHERE n.nspname = ANY(%(schemas)s)

-- name: tables
SELECT
    n.nspname::text AS schema,
    c.relname::text AS name,
    c.relkind IN ('v', 'm') AS is_view,
    c.relkind = 'p' AS is_partitioned,
    c.relkind IN ('r', 'p')
        OR (c.relkind <> 'm' AND u.events & 8 = 8) AS insertable,
    c.relkind IN ('r', 'p')
        OR (c.relkind <> 'm' AND u.events & 4 = 4) AS updatable,
    c.relkind IN ('r', 'p')
        OR (c.relkind <> 'm' AND u.events & 16 = 16) AS deletable,
    e.description
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_description e
    ON e.classoid = 'pg_class'::regclass AND e.objoid = c.oid AND e.objsubid = 0
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.relkind IN ('v', 'f')
        THEN pg_catalog.pg_relation_is_updatable(c.oid, true) ELSE 0 END AS events
) u
WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p')
    AND n.nspname = ANY(%(schemas)s)
    AND NOT c.relispartition
ORDER BY n.nspname, c.relname

-- name: columns
-- Those of a relation are one array of JSON, in the order of the fields of `catalog.Column`.
WITH RECURSIVE domains AS (
    SELECT t.oid, t.typbasetype, t.typtypmod, t.typnotnull,
        pg_catalog.pg_get_expr(t.typdefaultbin, 0) AS "default"
    FROM pg_catalog.pg_type t
    WHERE t.typtype = 'd'
    UNION ALL
    SELECT d.oid, t.typbasetype, t.typtypmod, d.typnotnull OR t.typnotnull, d."default"
    FROM domains d
    JOIN pg_catalog.pg_type t ON t.oid = d.typbasetype
    WHERE t.typtype = 'd'
),
based AS (
    SELECT d.*
    FROM domains d
    JOIN pg_catalog.pg_type t ON t.oid = d.typbasetype
    WHERE t.typtype <> 'd'
),
columns AS (
    SELECT
        a.attrelid,
        a.attnum,
        a.attname::text AS name,
        pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
        pg_catalog.format_type(base.oid, NULL) AS base_type,
        NOT (a.attnotnull OR coalesce(d.typnotnull, false)) AS nullable,
        CASE
            WHEN a.attgenerated <> '' OR a.attidentity = 'a' THEN NULL
            -- pg_get_serial_sequence() would need USAGE on the schema, which this role is not given.
            WHEN a.attidentity = 'd' THEN (
                SELECT pg_catalog.format('nextval(%%L)', s.oid::regclass::text)
                FROM pg_catalog.pg_depend p
                JOIN pg_catalog.pg_class s ON s.oid = p.objid AND s.relkind = 'S'
                WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
                    AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype = 'i'
            )
            WHEN ad.adbin IS NOT NULL THEN pg_catalog.pg_get_expr(ad.adbin, ad.adrelid)
            ELSE d."default"
        END AS default,
        a.attgenerated <> '' OR a.attidentity = 'a' AS is_generated,
        nullif(greatest(
            CASE WHEN base.typname IN ('varchar', 'bpchar') THEN coalesce(d.typtypmod, a.atttypmod) - 4
                WHEN base.typname IN ('bit', 'varbit') THEN coalesce(d.typtypmod, a.atttypmod)
            END, -1
        ), -1) AS max_length,
        CASE WHEN base.typtype = 'e' THEN ARRAY(
            SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
            WHERE e.enumtypid = base.oid ORDER BY e.enumsortorder
        ) END AS enum,
        base.typtype = 'c' OR base.typcategory = 'A' AS is_composite_or_array,
        e.description
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
    LEFT JOIN based d ON d.oid = a.atttypid
    JOIN pg_catalog.pg_type base ON base.oid = coalesce(d.typbasetype, a.atttypid)
    LEFT JOIN pg_catalog.pg_description e
        ON e.classoid = 'pg_class'::regclass AND e.objoid = a.attrelid AND e.objsubid = a.attnum
    WHERE a.attnum > 0
        AND NOT a.attisdropped
        AND c.relkind IN ('r', 'v', 'm', 'f', 'p')
        AND NOT c.relispartition
        AND n.nspname = ANY(%(schemas)s)
)
SELECT
    n.nspname::text AS schema,
    c.relname::text AS table,
    pg_catalog.json_agg(
        pg_catalog.json_build_array(
            k.name, k.type, k.base_type, k.nullable, k."default", k.is_generated, k.max_length,
            k.enum, k.is_composite_or_array, k.description
        ) ORDER BY k.attnum
    )::text AS columns
FROM columns k
JOIN pg_catalog.pg_class c ON c.oid = k.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
GROUP BY n.nspname, c.relname

-- name: keys
-- Constraints alone, as upstream: a unique index without one says nothing of relationships.
SELECT
    n.nspname::text AS schema,
    c.relname::text AS name,
    u.contype = 'p' AS is_primary,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.unnest(u.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
        ORDER BY k.place
    ) AS columns
FROM pg_catalog.pg_constraint u
JOIN pg_catalog.pg_class c ON c.oid = u.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE u.contype IN ('p', 'u')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')

-- name: foreign_keys
SELECT
    f.conname::text AS constraint,
    n.nspname::text AS schema,
    c.relname::text AS name,
    tn.nspname::text AS target_schema,
    t.relname::text AS target_name,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number
        ORDER BY k.place
    ) AS columns,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number
        ORDER BY k.place
    ) AS target_columns
FROM pg_catalog.pg_constraint f
JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = f.confrelid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE f.contype = 'f'
    AND f.conparentid = 0
ORDER BY f.conname

-- name: views
-- As upstream, those of other schemas hide what they are made of.
SELECT c.oid::int8 AS oid, r.ev_action::text AS definition
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename = '_RETURN'
    AND c.relkind IN ('v', 'm')
    AND n.nspname = ANY(%(view_schemas)s)

-- name: view_columns
-- Of the views, and of the relations that the views' definitions name.
SELECT
    c.oid::int8 AS oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    a.attnum::int AS number,
    a.attname::text AS column
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE a.attrelid = ANY(%(relations)s)
    AND a.attnum > 0
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')

-- name: functions
SELECT
    n.nspname::text AS schema,
    p.proname::text AS name,
    coalesce(i.names, '{}') AS names,
    coalesce(i.types, '{}') AS types,
    coalesce(i.variadics, '{}') AS variadics,
    p.pronargdefaults::int AS defaults,
    pg_catalog.format_type(t.oid, NULL) AS returns,
    p.proretset AS returns_set,
    base.typtype = 'c' OR o.columns > 0 AS returns_composite,
    tn.nspname::text AS table_schema,
    c.relname::text AS table_name,
    CASE
        WHEN o.columns > 0 THEN CASE WHEN o.unnamed = 0 THEN o.names END
        -- Those of an exposed table or view are known already.
        WHEN c.relkind = 'c' OR tn.nspname <> ALL(%(schemas)s) THEN ARRAY(
            SELECT a.attname::text FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum
        )
    END AS returns_columns,
    t.oid = 'void'::regtype AND NOT p.proretset AS returns_void,
    CASE p.provolatile
        WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile'
    END AS volatility,
    p.proconfig AS settings,
    pg_catalog.obj_description(p.oid, 'pg_proc') AS description
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_type t ON t.oid = p.prorettype
JOIN pg_catalog.pg_type base
    ON base.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_catalog.pg_class c ON c.oid = base.typrelid AND base.typrelid <> 0
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT
        pg_catalog.array_agg(coalesce(p.proargnames[k.place], '') ORDER BY k.place) AS names,
        pg_catalog.array_agg(
            -- Without a length the first of each pair would be cut to one.
            CASE k.type
                WHEN 'bpchar'::regtype THEN 'character varying'
                WHEN 'bpchar[]'::regtype THEN 'character varying[]'
                WHEN 'bit'::regtype THEN 'bit varying'
                WHEN 'bit[]'::regtype THEN 'bit varying[]'
                ELSE pg_catalog.format_type(k.type, NULL)
            END ORDER BY k.place
        ) AS types,
        count(*) FILTER (WHERE coalesce(p.proargnames[k.place], '') = '') AS unnamed,
        pg_catalog.array_agg(coalesce(p.proargmodes[k.place] = 'v', false) ORDER BY k.place)
            AS variadics
    FROM pg_catalog.unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]))
        WITH ORDINALITY AS k (type, place)
    WHERE coalesce(p.proargmodes[k.place], 'i') IN ('i', 'b', 'v')
) i
CROSS JOIN LATERAL (
    SELECT
        count(*) AS columns,
        count(*) FILTER (WHERE coalesce(p.proargnames[m.place], '') = '') AS unnamed,
        pg_catalog.array_agg(p.proargnames[m.place] ORDER BY m.place) AS names
    FROM pg_catalog.unnest(p.proargmodes) WITH ORDINALITY AS m (mode, place)
    WHERE m.mode IN ('t', 'o', 'b')
) o
WHERE p.prokind = 'f'
    -- A body fills one unnamed parameter at most, and only if it is of a type that bodies have.
    AND CASE i.unnamed
        WHEN 0 THEN true
        WHEN 1 THEN i.types[1] IN ('json', 'jsonb', 'text', 'xml', 'bytea')
        ELSE false
    END
    AND t.oid NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    AND n.nspname = ANY(%(schemas)s)
ORDER BY n.nspname, p.proname, p.oid

-- name: row_functions
SELECT
    n.nspname::text AS schema,
    p.proname::text AS name,
    sn.nspname::text AS source_schema,
    s.relname::text AS source_name,
    tn.nspname::text AS target_schema,
    t.relname::text AS target_name,
    p.proretset AS returns_set,
    NOT p.proretset OR p.prorows = 1 AS to_one
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_type st ON st.oid = p.proargtypes[0]
JOIN pg_catalog.pg_class s ON s.oid = st.typrelid
JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_catalog.pg_type tt ON tt.oid = p.prorettype
LEFT JOIN pg_catalog.pg_class t ON t.oid = tt.typrelid AND t.relkind <> 'c'
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE p.pronargs = 1
    AND p.prokind = 'f'
    AND sn.nspname = ANY(%(schemas)s)
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')

-- name: media_handlers
SELECT
    n.nspname::text AS schema,
    p.proname::text AS name,
    pg_catalog.lower(t.typname) AS media_type,
    CASE p.prokind WHEN 'f' THEN n.nspname ELSE sn.nspname END::text AS target_schema,
    CASE p.prokind WHEN 'f' THEN p.proname ELSE s.relname END::text AS target_name
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_type t ON t.oid = p.prorettype AND t.typtype = 'd'
LEFT JOIN pg_catalog.pg_type st ON st.oid = p.proargtypes[0]
LEFT JOIN pg_catalog.pg_class s ON s.oid = st.typrelid
LEFT JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
WHERE (t.typname ~ '^[A-Za-z0-9.-]+/[A-Za-z0-9.+-]+$' OR t.typname = '*/*')
    AND (p.prokind = 'f' AND NOT p.proretset OR p.prokind = 'a' AND p.pronargs = 1 AND (
        s.oid IS NOT NULL OR st.oid = 'anyelement'::regtype
    ))
    AND n.nspname = ANY(%(schemas)s)
ORDER BY p.oid

-- name: representations
SELECT
    pg_catalog.format_type(k.castsource, NULL) AS source,
    pg_catalog.format_type(k.casttarget, NULL) AS target,
    n.nspname::text AS schema,
    p.proname::text AS name
FROM pg_catalog.pg_cast k
JOIN pg_catalog.pg_type s ON s.oid = k.castsource
JOIN pg_catalog.pg_type t ON t.oid = k.casttarget
JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE k.castcontext = 'i'
    AND pg_catalog.has_function_privilege(k.castfunc, 'EXECUTE')
    AND (
        (s.typtype = 'd' AND t.oid = 'json'::regtype)
        OR (t.typtype = 'd' AND s.oid IN ('json'::regtype, 'text'::regtype))
    )

-- name: role_settings
SELECT r.rolname::text AS role, k.name, k.value
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c (line)
CROSS JOIN LATERAL (
    SELECT pg_catalog.split_part(c.line, '=', 1) AS name,
        pg_catalog.substr(c.line, pg_catalog.strpos(c.line, '=') + 1) AS value
) k
LEFT JOIN pg_catalog.pg_settings p ON p.name = k.name
WHERE (
        coalesce(p.context, 'user') = 'user'
        OR p.context = 'superuser'
            AND pg_catalog.has_parameter_privilege(current_user, k.name, 'SET')
    )
    AND k.name NOT IN ('role', 'search_path')
    AND s.setdatabase IN (
        0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
    )
    AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')
ORDER BY s.setdatabase
