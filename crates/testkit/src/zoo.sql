set client_min_messages = warning;
create schema "App";
comment on schema "App" is 'it''s; "the" app';
create schema "ünï códe";

-- What the writers write to.
create sequence tickets cache 5;
create table ledger (id bigint primary key, ticket bigint unique not null, note text, at timestamptz default now());
create table "keyless" (id bigint, what text);
create table audited (id bigint);
create table counters (who bigint primary key, n bigint not null);
insert into counters select g, 0 from generate_series(0, 9) g;
create function audit() returns trigger language plpgsql as $$ begin insert into public.audited values (new.id); return new; end $$;
create trigger audit after insert on ledger for each row execute function audit();
alter table ledger enable always trigger audit;

create type "App".mood as enum ('ok', 'bad', 'it''s; fine');
create domain "App".positive as int check (value > 0);
create type "App".pair as (a int, b text);
create type "App".span as range (subtype = float8);
create table "App"."Orders" (
    id serial primary key, n int generated always as identity (start 100 increment 10), twice int generated always as (n * 2) stored,
    m "App".mood default 'ok', p "App".positive, q "App".pair, s "App".span, parent int references "App"."Orders", tags text[] default '{a,"b c"}',
    body text check (length(body) < 1000), h public.hstore, j jsonb, f float8, r real, d date, iv interval, ts timestamp, tz timestamptz, b bytea,
    u uuid default gen_random_uuid(), money numeric(20, 5), net inet, bits bit varying(9), x xml, excluded int4range);
insert into "App"."Orders" (m, p, q, s, body, h, j, f, r, d, iv, ts, tz, b, money, net, bits, x)
    select (array['ok', 'bad', 'it''s; fine']::"App".mood[])[1 + g % 3], g, (g, 'x' || g)::"App".pair, '[1,2)', 'row ' || g, 'a=>1', '{"k": [1, null, "é"]}',
        0.1 + g / 3.0, 1 / 3.0, date '2024-02-29' + g, '1 mon 2 days 03:04:05.6', '2024-01-01 00:00:00.123456', '2024-06-01 12:00+05', decode(md5(g::text), 'hex'),
        1.5, '10.0.0.1/8', B'101', '<a/>' from generate_series(1, 300) g;
insert into "App"."Orders" (p, f, r, d, ts) values (1, 'NaN', '-Infinity', 'infinity', '-infinity');
insert into "App"."Orders" (p, b) select 2, decode(string_agg(md5(g::text), ''), 'hex') from generate_series(1, 200000) g;
create index orders_body on "App"."Orders" (lower(body)) where body is not null;
create index orders_gin on "App"."Orders" using gin (tags);
create statistics "App".st on id, p from "App"."Orders";
alter table "App"."Orders" add constraint apart exclude using gist (excluded with &&);
alter table "App"."Orders" alter column body set storage external, alter column p set statistics 250;
create table "App".unique_only (a int not null, b text not null, c text);
create unique index unique_only_ab on "App".unique_only (a, b);
insert into "App".unique_only select g, g::text, 'c' from generate_series(1, 50) g;
create table "App".nothing_to_tell (a int) with (fillfactor = 70);
alter table "App".nothing_to_tell replica identity nothing;
create table "App".late_key (id int primary key deferrable initially deferred, v text);
insert into "App".late_key values (1, 'one');

create table parts (k int, v text, primary key (k)) partition by range (k);
create table parts_1 partition of parts for values from (0) to (10);
create table parts_2 partition of parts for values from (10) to (1000) partition by list (k);
create table parts_2_all partition of parts_2 default;
create index on parts (v);
insert into parts select g, 'v' || g from generate_series(0, 100) g;
create table "bare parts" (k int, v text) partition by hash (k);
create table "bare parts 0" partition of "bare parts" for values with (modulus 2, remainder 0);
create table "bare parts 1" partition of "bare parts" for values with (modulus 2, remainder 1);
insert into "bare parts" select g, 'v' from generate_series(1, 40) g;
create table heir (more int) inherits ("App".unique_only);
insert into heir values (1000, 'h', 'i', 3);

create table "ünï códe"."Tâble ""q"" ; -- Name: x; Type: TABLE" ("Cölumn ""q""" int primary key, "select" text);
insert into "ünï códe"."Tâble ""q"" ; -- Name: x; Type: TABLE" values (1, E'tab\t newline\n back\\slash');
comment on table "ünï códe"."Tâble ""q"" ; -- Name: x; Type: TABLE" is E'line\n--\n-- Name: y; Type: EXTENSION; Schema: -; Owner: -\n--\n;';

create unlogged table scratch (id int primary key, x text);
insert into scratch select g, 'scratch' from generate_series(1, 100) g;
create function fill() returns trigger language plpgsql as $$ begin new.x := 'sprung'; return new; end $$;
create trigger fill before insert on scratch for each row when (new.id > 100) execute function fill();

create view "App".seen as select id, body, m from "App"."Orders" where p > 0;
create view "App".grouped as select o.id, o.body, count(*) as "end" from "App"."Orders" o group by o.id;
create materialized view "App".summed as select m, count(*) as n from "App"."Orders" group by m;
create unique index on "App".summed (m);
create materialized view "App".summed_more as select sum(n) as n from "App".summed;
create materialized view "App".empty as select 1 as one with no data;
create rule nothing as on delete to scratch do instead (select 1; select 2);

create function "App".f(a int, variadic b text[]) returns int language sql immutable as 'select 1; -- ; ''';
create function "App".atomic(a int) returns int language sql begin atomic; select case when a > 1 then 2 else 3 end; select 4; end;
create procedure "App".p(inout x int) language plpgsql as $body$
--
-- Name: trap; Type: TABLE; Schema: public; Owner: x
--
begin x := 1; /* $$ */ end $body$;
create aggregate "App".total(int) (sfunc = int4pl, stype = int, initcond = '0');
create operator "App".=== (leftarg = int, rightarg = int, function = int4eq);
create collation "App".c from "C";
create text search dictionary "App".d (template = simple);
create text search configuration "App".cfg (copy = pg_catalog.simple);
create publication mine for table "App"."Orders";

create table secrets (id int primary key, who text default current_user);
insert into secrets values (1, 'a'), (2, 'b');
alter table secrets enable row level security;
alter table secrets force row level security;
create policy mine on secrets for select to zoo_reporting using (who = current_user);
create policy all_mine on secrets using (who = 'b') with check (who <> 'x');
grant select (id, body), update (body) on "App"."Orders" to zoo_reporting;
grant usage on schema "App" to zoo_reporting;
grant execute on function "App".f(int, text[]) to zoo_reporting;
revoke execute on function audit() from public;
alter default privileges in schema "App" grant select on tables to zoo_reporting;
alter default privileges revoke execute on functions from public;

create sequence "App"."Odd ""seq" start 7 increment 3 maxvalue 10 cycle;
select nextval('"App"."Odd ""seq"'), nextval('"App"."Odd ""seq"'), nextval('"App"."Odd ""seq"');
create sequence untouched start 50;
create sequence restarted;
select setval('restarted', 41, false);
select setval('tickets', 1000);

select lo_from_bytea(4711, 'large');
select lo_from_bytea(4712, decode(repeat('00ff', 700000), 'hex'));
comment on large object 4711 is 'it''s carried';
grant select on large object 4712 to zoo_reporting;
