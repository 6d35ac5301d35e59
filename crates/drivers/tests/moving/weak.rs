//! Admins that are no superusers, as managed services have them: from 16 on they can move a tenant; what they may not is said
//! before it is tried.

use freehold_drivers::pooler::Verifier;
use freehold_drivers::secrets::scram_verifier;
use freehold_drivers::server::sql::moving::Content;

use crate::recipe::{Move, flip, follow_back, go_over, prepare, reader_dsn, retire};
use crate::world::{World, ask};
use crate::writer::Writers;

const SCHEMA: &str = "create sequence tickets; create table ledger (id bigint primary key, ticket bigint unique not null, note text); \
    create table \"keyless\" (id bigint, what text); create table audited (id bigint); create table counters (who bigint primary key, n bigint not null); \
    insert into counters select g, 0 from generate_series(0, 9) g; \
    create function audit() returns trigger language plpgsql as $$ begin insert into public.audited values (new.id); return new; end $$; \
    create trigger audit after insert on ledger for each row execute function audit(); alter table ledger enable always trigger audit; \
    create table forced (id int primary key); alter table forced enable row level security; alter table forced force row level security";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg18_to_pg18_by_weak_admins_and_back() {
    let world = World::weak(18, 18, SCHEMA).await;
    let before = (world.picture(&world.old).await, world.picture(&world.new).await);
    let mut plan = Move::new("weak");
    prepare(&world).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    from.ensure_marker().await.unwrap();
    let error = from.publish(&plan.there).await.unwrap_err().to_string();
    assert!(error.contains("row security is forced on public.forced") && error.contains("BYPASSRLS"), "{error}");
    world.login(&world.old).await.execute_script("drop table forced").await.unwrap();

    let mut writers = Writers::start(world.dsn_of_login(&world.old), 2);
    go_over(&world, &mut plan, &from, &to, &writers).await;
    follow_back(&world, &plan, &from, &to).await;
    writers.more(50).await;
    let back = plan.back.clone();
    flip(&world, &mut plan, &to, &from, &back, None).await;
    writers.go_to(world.dsn_of_login(&world.old));
    writers.more(50).await;
    writers.stop().await;
    from.unlink(&plan.back).await.unwrap();
    to.unpublish(&plan.back).await.unwrap();
    to.close().await;
    retire(&world, &plan, &from, &world.new).await;
    let session = world.login(&world.old).await;
    writers.check(&session).await;
    assert_eq!(ask(&session, "select current_user").await, "zoo owner");
    drop(session);
    assert_eq!((world.picture(&world.old).await, world.picture(&world.new).await), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_by_a_weak_admin_writes_no_password_where_statements_are_logged() {
    let world = World::weak(18, 18, "create table t (id int primary key)").await;
    let superuser = world.new.connect("postgres").await;
    superuser.batch_execute("alter system set log_statement = 'all'").await.unwrap();
    superuser.batch_execute("select pg_reload_conf()").await.unwrap();
    let plan = Move::new("logged");
    prepare(&world).await;
    let (old, new) = (world.side(&world.old).await, world.side(&world.new).await);
    for side in [&old, &new] {
        side.ensure_marker().await.unwrap();
    }
    old.publish(&plan.there).await.unwrap();
    old.ensure_reader(&plan.there, &Verifier::parse(scram_verifier(&plan.reader)).unwrap()).await.unwrap();
    let from = reader_dsn(&world, &world.old, &plan.there, &plan.reader);
    let error = new.subscribe(&plan.there, &from, Content::Equal).await.unwrap_err().to_string();
    assert!(error.contains("log_statement is all"), "{error}");
    assert!(!world.new.log().contains(plan.reader.expose()));
}
