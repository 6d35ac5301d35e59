//! Issue 5, item 5: what logical replication cannot carry moves by dump and restore, once somebody says so; it is told what
//! that costs before it begins.

use serde_json::{Value as Json, json};

use crate::common::{create, dev, exits, expect, log_in, problem, stdout, text};

const HERE: &str = "local-1";
const THERE: &str = "local-2";

/// More of an unlogged table than is copied while everybody waits, and rows that nothing tells apart.
const UNCARRIED: &str = "
    create table doc (body json); insert into doc select '{}' from generate_series(1, 1000);
    create unlogged table cache (k int primary key, v text); alter table cache alter v set storage external;
    insert into cache select g, repeat(md5(g::text), 64) from generate_series(1, 36000) g;
    create table book (id bigserial primary key, title text not null, doc oid); create index on book (title);
    insert into book (title, doc) select 'book ' || g, lo_from_bytea(0, decode(repeat('ab', g), 'hex')) from generate_series(1, 700) g;
    create table page (book bigint references book, no int, primary key (book, no));
    insert into page select g % 700 + 1, g from generate_series(1, 5000) g;
    create function count_pages() returns trigger language plpgsql as $$ begin raise exception 'fired'; end $$;
    create trigger counts after insert on page for each row execute function count_pages();
    alter table page enable always trigger counts;
    create materialized view titles as select title from book;
    create table secret (who text); insert into secret values ('a'), ('b');
    alter table secret enable row level security; alter table secret force row level security;
    create policy none on secret using (who = 'a')";

/// All of it, as the tenant sees it.
const SUMS: &str = "select concat_ws(' ', (select count(*) from doc), (select md5(string_agg(v, '' order by k)) from cache),
    (select sum(length(lo_get(doc))) from book), (select count(*) from page), (select count(*) from titles), (select count(*) from secret),
    (select last_value from book_id_seq), (select tgenabled from pg_trigger where tgname = 'counts'))";

#[tokio::test]
async fn story_what_replication_cannot_carry_moves_by_dump() {
    let plane = dev().stock(0).arg("--servers").arg("2").start().await;
    expect(&plane.post(&format!("/v1/servers/{THERE}/cordon"), json!({})).await, 200);
    let made = create(&plane, "acme").await;
    expect(&plane.post(&format!("/v1/servers/{THERE}/uncordon"), json!({})).await, 200);
    let tenant = log_in(&made["connection"]).await;
    tenant.batch_execute("set client_min_messages = warning").await.unwrap();
    tenant.batch_execute(UNCARRIED).await.unwrap();
    let sums = text(&tenant, SUMS).await;
    assert!(sums.ends_with(" 5000 700 1 700 A"), "{sums}");

    // Refused as it is, with what would do.
    let refused = plane.cli(&["tenant", "move", "acme", "--to", THERE]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("not_movable"), "{told}");
    let command = "freehold tenant move acme --to server:local-2 --method dump";
    assert!(told.contains("writes stopped for about") && told.contains(command), "{told}");
    let looked = stdout(&exits(plane.cli(&["tenant", "move", "acme", "--to", THERE, "--dry-run"]), 11));
    assert!(looked.contains("methods  dump") && looked.contains("writes stopped for"), "{looked}");
    for (body, says) in [
        (json!({"to": {"server": THERE}, "method": "rsync"}), "unknown variant"),
        (json!({"to": {"server": THERE}, "method": "dump", "deadline_seconds": 100_000}), "use 1 to 86400"),
        (json!({"to": {"server": THERE}, "deadline_seconds": 100}), "use 1 to 60"),
    ] {
        let answer = plane.post("/v1/tenants/acme/move", body).await;
        let told = problem(&answer, 422, "invalid").to_string();
        assert!(told.contains(says), "{told}");
    }
    assert_eq!(text(&tenant, SUMS).await, sums, "nobody was disturbed");

    let moved = plane.cli(&["tenant", "move", "acme", "--to", THERE, "--method", "dump"]);
    let told = String::from_utf8_lossy(&moved.stderr).into_owned();
    assert!(told.contains("nobody is let in to acme for about"), "{told}");
    assert!(stdout(&exits(moved, 0)).contains(THERE));
    assert!(log_in_fails(&made["connection"]).await, "the server that was left lets it in");
    let connection = expect(&plane.get("/v1/tenants/acme/connection").await, 200).clone();
    let tenant = log_in(&connection).await;
    assert_eq!(text(&tenant, SUMS).await, sums);
    let fired = tenant.batch_execute("insert into page values (1, 9999)").await.unwrap_err();
    assert!(fired.as_db_error().is_some_and(|error| error.message() == "fired"), "{fired:?}");

    let stands = expect(&plane.get("/v1/tenants/acme/move").await, 200).clone();
    assert_eq!(
        (&stands["method"], &stands["serves"], &stands["digests"], &stands["follows"]),
        (&json!("dump"), &json!(THERE), &json!("equal"), &json!(false)),
        "{stands:#}"
    );
    assert!(stands["stall_ms"].is_u64() && stands["keep_until"].is_string(), "{stands:#}");
    let back = plane.cli(&["tenant", "move", "acme", "--rollback"]);
    let told = String::from_utf8_lossy(&back.stderr).into_owned();
    assert!(told.contains("no way back") && told.contains("--to server:local-1 --method dump"), "{told}");
    exits(plane.cli(&["tenant", "move", "acme", "--finish"]), 0);
    assert_eq!(plane.get("/v1/tenants/acme/move").await.0, 404);

    // And whoever could move otherwise may choose it, there and back.
    tenant.batch_execute("drop table doc, cache").await.unwrap();
    drop(tenant);
    exits(plane.cli(&["tenant", "move", "acme", "--to", HERE, "--method", "dump"]), 0);
    let connection: Json = expect(&plane.get("/v1/tenants/acme/connection").await, 200).clone();
    assert_eq!(text(&log_in(&connection).await, "select count(*)::text from page").await, "5000");
}

async fn log_in_fails(connection: &Json) -> bool {
    freehold_testkit::as_tenant(connection).await.is_err()
}
