-- The tables of the demo, in a schema of their own; applied at every start, so each statement may meet its own work.

create schema if not exists reviews;

-- One row a review. What the validator cannot know of PostgreSQL (NUL in text, the size of an index entry) is refused here.
create table if not exists reviews.reviews (
    review_id   text collate "C" not null,      -- sorted as Python sorts: importers meet on rows in one order, no deadlock
    hotel_id    text             not null,
    provider_id text             not null,      -- who sent it: set by the import
    import_id   bigint           not null,
    rating      smallint         not null,
    created_at  timestamptz,                    -- as the line says
    imported_at timestamptz      not null default now(),
    content     text             not null,
    author      text,
    title       text,
    language    text,
    images      jsonb,
    extra       jsonb            not null,      -- fields that the format does not name
    constraint reviews_pkey primary key (review_id),
    constraint reviews_rating check (rating between 1 and 5),
    constraint reviews_review_id check (octet_length(review_id) between 1 and 200),
    constraint reviews_hotel_id check (octet_length(hotel_id) between 1 and 200)
);

create table if not exists reviews.imports (
    id           bigint      not null generated always as identity,
    job_id       bigint,                        -- of reviews.import_file
    bytes        bigint,                        -- of the plain lines; known, with the chunks, when the file is split
    submitted_at timestamptz not null default clock_timestamp(),
    started_at   timestamptz,                   -- the plain lines were there: fetched, unpacked or made
    finished_at  timestamptz,
    location     text        not null,          -- a file, an address, or made:…
    fingerprint  text        not null,          -- tells two states of that location apart
    provider_id  text        not null,
    path         text        not null,          -- where the plain lines lie
    constraint imports_pkey primary key (id)
);

-- A byte range of the file and how far it is. Counters and cursor move in the transaction that stores the rows.
create table if not exists reviews.chunks (
    import_id   bigint      not null references reviews.imports (id) on delete cascade,
    number      smallint    not null,
    job_id      bigint      not null,           -- of reviews.import_chunk
    first_byte  bigint      not null,
    end_byte    bigint      not null,
    first_line  bigint      not null,           -- its number in the file, from 1
    lines       bigint      not null,
    cursor_byte bigint      not null,           -- everything before it is committed
    passed      bigint      not null default 0, -- lines before the cursor
    blank       bigint      not null default 0,
    stored      bigint      not null default 0,
    failed      bigint      not null default 0,
    duplicates  bigint      not null default 0,
    finished_at timestamptz,
    constraint chunks_pkey primary key (import_id, number),
    constraint chunks_cursor check (cursor_byte between first_byte and end_byte),
    constraint chunks_every_line_counted check (passed = blank + stored + failed + duplicates),
    constraint chunks_finished check (finished_at is null or passed = lines)
) with (fillfactor = 20);                       -- updated for every hundred lines: room for the new versions in the page

create table if not exists reviews.import_errors (
    import_id bigint not null references reviews.imports (id) on delete cascade,
    line      bigint not null,                  -- its number in the file, from 1
    kind      text   not null,
    message   text   not null,
    excerpt   text   not null,
    constraint import_errors_pkey primary key (import_id, line)
);

-- Stores a JSON array of reviews and returns how many were new. A row that is refused fails all of them. A function, so that
-- the session keeps its plan: 36,000 rows a second against 32,000 with a statement that is planned for each hundred rows.
create or replace function reviews.store(_provider text, _import_id bigint, _reviews jsonb)
returns integer
language plpgsql
as $$
declare
    _stored integer;
begin
    insert into reviews.reviews (
        review_id, hotel_id, provider_id, import_id, rating, created_at, content, author, title, language, images, extra
    )
    select
        r.review_id, r.hotel_id, _provider, _import_id, r.rating, r.created_at, r.content, r.author, r.title, r.language, r.images,
        d - array['review_id', 'hotel_id', 'rating', 'created_at', 'content', 'author', 'title', 'language', 'images']
    from jsonb_array_elements(_reviews) d
    cross join lateral jsonb_to_record(d) as r (
        review_id text, hotel_id text, rating smallint, created_at timestamptz, content text, author text, title text,
        language text, images jsonb
    )
    on conflict (review_id) do nothing;
    get diagnostics _stored = row_count;
    return _stored;
end
$$;

-- The same one by one, where a row of them was refused: says for each place whether it was new and, if it was refused, why.
-- In the server, because savepoints from the client took 12 ms for a hundred rows, and this takes 5. What is caught is about
-- the data of a row: data, constraint, program limit (an index entry), raised by a trigger; all else fails the whole call.
create or replace function reviews.store_each(_provider text, _import_id bigint, _reviews text[])
returns table (place integer, stored integer, problem text)
language plpgsql
as $$
declare
    _detail text;
begin
    for _place in 1..cardinality(_reviews) loop
        place := _place;
        begin
            stored := reviews.store(_provider, _import_id, jsonb_build_array(_reviews[_place]::jsonb));
            problem := null;
        exception
            when data_exception then
                get stacked diagnostics _detail = pg_exception_detail;  -- "\u0000 cannot be converted to text."
                stored := 0;
                problem := concat_ws(': ', sqlerrm, nullif(_detail, ''));
            when integrity_constraint_violation or program_limit_exceeded or plpgsql_error then
                stored := 0;
                problem := sqlerrm;                                     -- its detail would repeat the whole row
        end;
        return next;
    end loop;
end
$$;
