INSERT INTO auth.users (
    instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
    raw_app_meta_data, raw_user_meta_data, created_at, updated_at
)
SELECT
    '00000000-0000-0000-0000-000000000000', id, 'authenticated', 'authenticated', email,
    extensions.crypt('correct horse battery', extensions.gen_salt('bf', 4)), now(),
    '{"provider": "email", "providers": ["email"]}', '{}', now(), now()
FROM (VALUES
    ('11111111-1111-4111-8111-111111111111'::uuid, 'eva@example.com'),
    ('22222222-2222-4222-8222-222222222222'::uuid, 'bob@example.com')
) AS people (id, email);
