//! Issue 5, item 8, bad input: a source that cannot be read, or that means harm.

use std::io::{Read, Write};
use std::net::TcpListener;

use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Port};
use serde_json::{Value as Json, json};

use crate::common::{admin, dev_with, exits, expect, log_in, problem, settings, stdout, store, text};
use crate::import::{PASSWORD, app, codes, elsewhere, from, import, plane_of};

/// Answers as a server of PostgreSQL 11 would, as far as anybody asks it.
fn version_11() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let message = |kind: u8, body: &[u8]| {
                let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
                [&[kind][..], &length, body].concat()
            };
            let parameter = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut startup).unwrap();
            let mut said = message(b'R', &[0; 4]);
            for (name, value) in [
                ("server_version", "11.22"),
                ("session_authorization", "app"),
                ("is_superuser", "off"),
                ("client_encoding", "UTF8"),
            ] {
                said.extend(parameter(name, value));
            }
            said.extend(message(b'K', &[0; 8]));
            said.extend(message(b'Z', b"I"));
            stream.write_all(&said).unwrap();
            let mut head = [0; 5];
            while stream.read_exact(&mut head).is_ok() && head[0] == b'Q' {
                let mut query = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
                stream.read_exact(&mut query).unwrap();
                let done = [message(b'C', b"SET\0"), message(b'Z', b"I")].concat();
                stream.write_all(&done).unwrap();
            }
        }
    });
    port
}

#[tokio::test]
async fn story_what_cannot_be_imported_is_refused_with_every_reason() {
    let source = elsewhere(15).await;
    app(&source)
        .await
        .batch_execute("create table item (id int primary key); insert into item values (1)")
        .await
        .unwrap();
    let file =
        settings("[[plan]]\nname = \"standard\"\ndefault = true\n[[plan]]\nname = \"tiny\"\nstorage_quota = 1000000\n");
    let plane = dev_with(&file).stock(0).start().await;
    let refused = async |body: Json, code: &str, says: &str| {
        let answer = import(&plane, "acme", body).await;
        assert!((400..500).contains(&answer.0), "{}", answer.2);
        let told = answer.2.to_string();
        assert!(told.contains(code) && told.contains(says) && !told.contains(PASSWORD), "{code}, {says}: {told}");
        problem(&plane.get("/v1/tenants/acme").await, 404, "not_found");
    };
    let good = from(&source, "app");
    let port = source.port();
    let away = Port::reserve();
    for (dsn, code, says) in [
        (format!("postgres://app:{PASSWORD}@127.0.0.1:{}/shop", away.number), "source_unreachable", "refused"),
        (format!("postgres://app:wrong{PASSWORD}@127.0.0.1:{port}/shop"), "source_denied", "password"),
        (format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/nowhere"), "source_missing", "does not exist"),
        (format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/shop?sslmode=require"), "source_tls", "TLS"),
        (format!("postgres://app@127.0.0.1:{}/shop?sslmode=disable", version_11()), "source_version", "PostgreSQL 11"),
        (format!("postgres://app:{PASSWORD}@%2Ftmp:{port}/shop"), "invalid", "local socket"),
        (format!("{good}&sslrootcert=/etc/passwd"), "invalid", "ca_certificate"),
        (format!("postgres://app:{PASSWORD}@[::1/shop"), "invalid", "brackets"),
    ] {
        refused(json!({"from": dsn}), code, says).await;
    }
    refused(json!({"from": good, "plan": "tiny"}), "storage_quota", "larger plan").await;
    refused(json!({"from": good, "plan": "none"}), "unknown_plan", "none").await;
    refused(json!({"from": good, "method": "rsync"}), "invalid", "unknown field").await;
    refused(json!({}), "invalid", "from").await;
    refused(json!({"from": from(&source, "reader")}), "source_privilege", "public.item").await;
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
    refused(json!({"from": good}), "no_room", "cordoned").await;
    expect(&plane.post("/v1/servers/local-1/uncordon", json!({})).await, 200);

    // All at once, and each of them is somebody's to mend there.
    let superuser = source.connect("shop").await;
    superuser
        .batch_execute(
            "create extension postgres_fdw; create server far foreign data wrapper postgres_fdw; create extension dblink;
             create function steal() returns int language c as '$libdir/plpgsql', 'plpgsql_call_handler';
             create cast (text as int) with inout as assignment; create schema freehold; create table freehold.mine (n int);
             alter table item enable row level security; alter table item force row level security",
        )
        .await
        .unwrap();
    let looked = plane.cli(&["tenant", "import", "acme", "--from", &good, "--dry-run", "--json"]);
    let found: Json = serde_json::from_str(&stdout(&exits(looked, 12))).unwrap();
    let codes = codes(&found, "refusals");
    for code in [
        "superuser_objects",
        "superuser_casts",
        "foreign_server",
        "schema_freehold",
        "row_security",
        "extension_denied",
    ] {
        assert!(codes.iter().any(|found| found == code), "{code} is missing: {found:#}");
    }
    let refused = import(&plane, "acme", json!({"from": good})).await;
    assert_eq!(
        problem(&refused, 422, "prerequisite")["errors"].as_array().unwrap().len(),
        codes.len(),
        "{}",
        refused.2
    );
    problem(&plane.get("/v1/tenants/acme").await, 404, "not_found");
    assert_eq!(text(&store(&plane).await, "select count(*)::text from import_source").await, "0");
}

/// What the source defines runs here as the tenant's own roles, or not at all.
#[tokio::test]
async fn story_a_hostile_source_gains_nothing() {
    for version in [15, 18] {
        let source = elsewhere(15).await;
        let attacker = app(&source).await;
        attacker.batch_execute(HOSTILE).await.unwrap_or_else(|error| panic!("{error:?}"));
        source
            .connect("shop")
            .await
            .batch_execute("create event trigger watch on ddl_command_end execute function watch(); alter database shop set log_min_duration_statement = -1")
            .await
            .unwrap();
        let plane = plane_of(version).await;
        let made = import(&plane, "acme", json!({"from": source.dsn_with(ADMIN, ADMIN_PASSWORD, "shop")})).await;
        let made = expect(&made, 201);
        let tenant = log_in(&made["connection"]).await;
        let server = admin(&plane, "postgres").await;
        let risen = "select coalesce(string_agg(rolname::text, ' '), '') from pg_roles where (rolsuper or rolcreaterole or rolbypassrls or rolreplication)
            and rolname not like 'pg\\_%' and rolname <> 'freehold_admin'";
        assert_eq!(text(&server, risen).await, "", "somebody became more than he was");
        let inside = admin(&plane, made["connection"]["direct"]["database"].as_str().unwrap()).await;
        assert_eq!(text(&inside, "select count(*)::text from pg_event_trigger").await, "0");
        assert_eq!(text(&tenant, "select count(*)::text from victim").await, "3", "it came whole all the same");
        let stored =
            "select count(*)::text from pg_db_role_setting s, unnest(setconfig) c where c like 'log_min_duration%'";
        assert_eq!(text(&server, stored).await, "0");
    }
}

/// Each of them tries to make a superuser, by whatever role runs it, and leaves its session without the owner's.
const HOSTILE: &str = "
    create function rise(what text) returns text language plpgsql as $$ begin
        begin execute 'reset role; alter role ' || quote_ident(session_user) || ' superuser'; exception when others then null; end;
        begin execute 'set role none; create role risen superuser'; exception when others then null; end;
        begin execute 'set session authorization default; create role risen superuser'; exception when others then null; end;
        begin perform set_config('role', 'none', false); exception when others then null; end;
        return what; end $$;
    create function checks(v int) returns bool language plpgsql as $$ begin perform public.rise('check'); return true; end $$;
    create function sprung() returns trigger language plpgsql as $$ begin perform public.rise(tg_name); return new; end $$;
    create function watch() returns event_trigger language plpgsql as $$ begin perform public.rise('event'); end $$;
    create function shown(v int) returns int language plpgsql immutable as $$ begin perform public.rise('index'); return v; end $$;
    create type odd as (a int);
    create function odd_text(odd) returns text language plpgsql as $$ begin perform public.rise('cast'); return 'x'; end $$;
    create cast (odd as text) with function odd_text(odd) as implicit;
    create table victim (id int primary key check (checks(id)), o odd, d text default rise('default'));
    insert into victim select g, row(g)::odd from generate_series(1, 3) g;
    create trigger spring after insert or update on victim for each row execute function sprung();
    create trigger always after insert or update on victim for each row execute function sprung();
    alter table victim enable always trigger always;
    create index on victim (shown(id));
    create materialized view seen as select rise('view') as what from victim;
    create function public.format(text, odd) returns text language plpgsql as $$ begin return public.rise('format'); end $$;
    create rule also as on update to victim do also select rise('rule')";
