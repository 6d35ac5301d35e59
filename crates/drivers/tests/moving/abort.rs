//! Given up after each verb, it leaves nothing.

use freehold_drivers::pooler::Verifier;
use freehold_drivers::secrets::scram_verifier;
use freehold_drivers::server::sql::Admin;
use freehold_drivers::server::sql::moving::{Content, Part};

use crate::recipe::{LONG, Move, SOON, abort, reader_dsn};
use crate::world::{World, dsn};

const SMALL: &str = "create table keyless (a int); insert into keyless values (1); create table t (id int primary key); create unlogged table u (n int)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg18_given_up_at_any_verb_leaves_nothing() {
    given_up(15, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg15_given_up_at_any_verb_leaves_nothing() {
    given_up(15, 15).await;
}

async fn given_up(old: u32, new: u32) {
    let world = World::start(old, new, SMALL).await;
    let dump = world.dump(&world.old);
    let before = (world.picture(&world.old).await, world.picture(&world.new).await);
    let mut verbs = 0;
    while go(&world, verbs).await {
        let now = (world.picture(&world.old).await, world.picture(&world.new).await);
        assert_eq!(now, before, "after {verbs} verbs");
        assert_eq!(world.dump(&world.old), dump, "after {verbs} verbs");
        world.login(&world.old).await.execute_script("update keyless set a = a").await.unwrap();
        verbs += 1;
    }
    assert!(verbs > 18, "{verbs}");
}

/// So many verbs of the recipe, then abort, twice. False: there are no more verbs.
async fn go(world: &World, verbs: usize) -> bool {
    let mut plan = Move::new("abort");
    let done = steps(world, &mut plan, verbs).await;
    abort(world, &plan).await;
    abort(world, &plan).await;
    !done
}

async fn steps(world: &World, plan: &mut Move, verbs: usize) -> bool {
    let mut left = verbs;
    let mut enough = || {
        let stop = left == 0;
        left = left.saturating_sub(1);
        stop
    };
    macro_rules! verb {
        ($verb:expr) => {{
            if enough() {
                return false;
            }
            $verb.await.unwrap()
        }};
    }
    let (source, target) = (world.admin(&world.old).await, world.admin(&world.new).await);
    verb!(target.prepare_roles(&source, &world.tenant));
    verb!(target.prepare_database(&source, &world.tenant));
    let inside = Admin::connect(&dsn(&world.new), Some(&world.tenant.database), "test").await.unwrap();
    verb!(inside.prepare_grants(&source, &world.tenant));
    inside.close().await;
    let (old, new) = (world.side(&world.old).await, world.side(&world.new).await);
    let logins = world.tenant.login_names();
    verb!(new.prepare_extensions(&old));
    plan.identities = verb!(old.plan_identities());
    verb!(old.set_identities(&plan.identities, SOON));
    verb!(new.carry_schema(&old, &world.pg_dump, Part::First));
    verb!(old.ensure_marker());
    verb!(new.ensure_marker());
    verb!(old.publish(&plan.there));
    let verifier = Verifier::parse(scram_verifier(&plan.reader)).unwrap();
    verb!(old.ensure_reader(&plan.there, &verifier));
    verb!(old.create_slot(&plan.there, LONG));
    let from = reader_dsn(world, &world.old, &plan.there, &plan.reader);
    verb!(new.subscribe(&plan.there, &from, Content::Copied));
    // In the middle of the copy, too.
    verb!(new.enable(&plan.there));
    crate::recipe::caught_up(world, &plan.there, &new).await;
    verb!(new.carry_schema(&old, &world.pg_dump, Part::Rest));
    verb!(new.publish(&plan.back));
    verb!(new.ensure_reader(&plan.back, &verifier));
    verb!(new.create_slot(&plan.back, LONG));
    verb!(old.fence(&logins, SOON));
    verb!(old.mark(&plan.there, "token"));
    verb!(new.await_mark(&plan.there, "token", SOON));
    verb!(new.disable(&plan.there));
    verb!(new.carry_unlogged(&old, 1 << 20));
    verb!(new.carry_large_objects(&old, 1 << 20));
    enough()
}
