CREATE FUNCTION public.add_cook(event jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_set(event, '{claims,cook}', to_jsonb(name))
    FROM public.profiles WHERE id = (event ->> 'user_id')::uuid
$$;
REVOKE EXECUTE ON FUNCTION public.add_cook FROM public, anon, authenticated;
GRANT USAGE ON SCHEMA public TO supabase_auth_admin;
GRANT SELECT ON public.profiles TO supabase_auth_admin;
GRANT EXECUTE ON FUNCTION public.add_cook TO supabase_auth_admin;
