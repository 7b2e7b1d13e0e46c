INSERT INTO public.recipes (owner_id, title, published, embedding) VALUES
    ('11111111-1111-4111-8111-111111111111', 'Rye bread', true, '[1,0,0]'),
    ('11111111-1111-4111-8111-111111111111', 'A secret soup', false, '[0,1,0]'),
    ('22222222-2222-4222-8222-222222222222', 'Plum cake', true, '[0,0,1]');
INSERT INTO kitchen.tools VALUES ('spoon'), ('whisk');
