//! The move, as an operation would say it.

use std::time::{Duration, Instant};

use freehold_drivers::pooler::Verifier;
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::moving::{
    Content, Fingerprint, Identity, Link, Part, Side, Trigger, changed, differing,
};
use freehold_drivers::server::sql::{Admin, Dsn, SqlError};
use freehold_testkit::Cluster;
use tokio::time::sleep;

use crate::world::{World, dsn};
use crate::writer::Writers;

pub const SOON: Duration = Duration::from_secs(5);
pub const LONG: Duration = Duration::from_secs(30);
const LIMIT: u64 = 64 << 20;
const MOMENT: Duration = Duration::from_millis(20);

/// What the operation would have on record.
pub struct Move {
    pub there: Link,
    pub back: Link,
    pub reader: Password,
    pub back_reader: Password,
    pub identities: Vec<Identity>,
    pub fingerprint: Fingerprint,
    pub waking: Vec<Trigger>,
    /// Of the new side's log, at the flip.
    pub place: String,
}

impl Move {
    pub fn new(id: &str) -> Self {
        Self {
            there: Link::there(id).unwrap(),
            back: Link::back(id).unwrap(),
            reader: Password::random(40),
            back_reader: Password::random(40),
            identities: Vec::new(),
            fingerprint: Fingerprint::default(),
            waking: Vec::new(),
            place: "0/0".into(),
        }
    }
}

pub fn reader_dsn(world: &World, cluster: &Cluster, link: &Link, password: &Password) -> Dsn {
    dsn(cluster).with_user(&link.reader(), password.clone()).with_database(&world.tenant.database)
}

fn verifier(password: &Password) -> Verifier {
    Verifier::parse(scram_verifier(password)).unwrap()
}

/// Each verb twice, as an operation that was killed in between would.
pub async fn prepare(world: &World) {
    let (source, target) = (world.admin(&world.old).await, world.admin(&world.new).await);
    for _ in 0..2 {
        assert!(target.prepare_roles(&source, &world.tenant).await.unwrap().is_empty());
        target.prepare_database(&source, &world.tenant).await.unwrap();
    }
    let inside = Admin::connect(&world.admin_dsn(&world.new), Some(&world.tenant.database), "fh:test:1").await.unwrap();
    for _ in 0..2 {
        assert!(inside.prepare_grants(&source, &world.tenant).await.unwrap().is_empty());
    }
    inside.close().await;
    let (old, new) = (world.side(&world.old).await, world.side(&world.new).await);
    for _ in 0..2 {
        drop(new.prepare_extensions(&old).await.unwrap());
    }
    old.close().await;
    new.close().await;
}

/// Until every table is copied and followed.
pub async fn copy(world: &World, plan: &mut Move, old: &Side, new: &Side) {
    plan.identities = old.plan_identities().await.unwrap();
    for _ in 0..2 {
        old.set_identities(&plan.identities, SOON).await.unwrap();
    }
    plan.fingerprint = old.fingerprint().await.unwrap();
    for _ in 0..2 {
        new.carry_schema(old, &world.pg_dump, Part::First).await.unwrap();
        old.ensure_marker().await.unwrap();
        new.ensure_marker().await.unwrap();
        old.publish(&plan.there).await.unwrap();
        old.ensure_reader(&plan.there, &verifier(&plan.reader)).await.unwrap();
        old.create_slot(&plan.there, LONG).await.unwrap();
    }
    let from = reader_dsn(world, &world.old, &plan.there, &plan.reader);
    for _ in 0..2 {
        new.subscribe(&plan.there, &from, Content::Copied).await.unwrap();
    }
    new.enable(&plan.there).await.unwrap();
    caught_up(world, &plan.there, new).await;
    for _ in 0..2 {
        new.carry_schema(old, &world.pg_dump, Part::Rest).await.unwrap();
    }
    for side in [old, new] {
        side.analyze().await.unwrap();
    }
    // What the writers write to may differ; nothing else.
    let left = old.settle(new, &old.ranges(100).await.unwrap(), Duration::from_millis(500)).await.unwrap();
    let busy = ["ledger", "keyless", "audited", "counters"];
    let wrong: Vec<_> = left.iter().filter(|range| !busy.iter().any(|name| range.table.contains(name))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    new.refresh_views(old).await.unwrap();
    assert_eq!(old.fingerprint().await.unwrap().changed_since(&plan.fingerprint), Vec::<String>::new());
    assert_eq!(new.fingerprint().await.unwrap().unlike(&plan.fingerprint), Vec::<String>::new());
}

pub async fn caught_up(world: &World, link: &Link, subscriber: &Side) {
    let deadline = Instant::now() + LONG;
    loop {
        let progress = subscriber.progress(link).await.unwrap();
        if progress.is_ready() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{progress:?}\nold:\n{}\nnew:\n{}",
            world.errors(&world.old),
            world.errors(&world.new)
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Who is far behind would have to catch up under the fence.
async fn close_behind(from: &Side, link: &Link) {
    let deadline = Instant::now() + LONG;
    while from.slot_seen(link).await.unwrap().lag_bytes > 64 << 10 {
        assert!(Instant::now() < deadline, "the writers are faster");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The way back is made ready before the fence.
pub async fn prepare_back(plan: &Move, to: &Side) {
    for _ in 0..2 {
        to.publish(&plan.back).await.unwrap();
        to.ensure_reader(&plan.back, &verifier(&plan.back_reader)).await.unwrap();
        to.create_slot(&plan.back, LONG).await.unwrap();
    }
    to.advance_slot(&plan.back).await.unwrap();
}

/// From one side to the other, with all that was committed. Answers how long nobody could write.
#[expect(clippy::print_stderr, reason = "how long nobody could write, for whoever asks")]
pub async fn flip(
    world: &World,
    plan: &mut Move,
    from: &Side,
    to: &Side,
    link: &Link,
    way_back: Option<&Link>,
) -> Duration {
    let logins = world.tenant.login_names();
    let before = from.sequences().await.unwrap();
    to.set_sequences(&before).await.unwrap();
    plan.waking = if way_back.is_some() { from.waking_triggers().await.unwrap() } else { plan.waking.clone() };
    assert!(from.unlogged_bytes().await.unwrap() < LIMIT);
    let snapshot = to.prepare_snapshot().await.unwrap();
    let glance = from.prepare_glance(to, MOMENT).await.unwrap();
    // In this order: what is changed in between shows.
    let state = from.schema_state().await.unwrap();
    let print = from.fingerprint().await.unwrap();
    assert_eq!(print.unlike(&plan.fingerprint), Vec::<String>::new());
    close_behind(from, link).await;

    let began = Instant::now();
    from.fence(&logins, SOON).await.unwrap();
    let fenced = began.elapsed();
    let token = Password::random(20);
    from.mark(link, token.expose()).await.unwrap();
    // A change of the schema is not replicated: the last look is under the fence, while the marker travels.
    let (arrived, now) = tokio::join!(to.await_mark(link, token.expose(), SOON), from.schema_state());
    arrived.unwrap();
    if now.unwrap() != state {
        assert_eq!(from.fingerprint().await.unwrap().changed_since(&print), Vec::<String>::new());
    }
    from.still_fenced(&logins).await.unwrap();
    let marked = began.elapsed();
    let seen = glance.compare(MOMENT).await.unwrap();
    assert_eq!(seen.differ, Vec::<String>::new());
    let compared = began.elapsed();
    glance.leave();
    to.disable(link).await.unwrap();
    to.set_sequences(&changed(&before, &from.sequences().await.unwrap())).await.unwrap();
    let sequenced = began.elapsed();
    to.carry_unlogged(from, LIMIT).await.unwrap();
    to.carry_large_objects(from, LIMIT).await.unwrap();
    to.wake_triggers(&plan.waking).await.unwrap();
    let carried = began.elapsed();
    if let Some(back) = way_back {
        plan.place = to.advance_slot(back).await.unwrap();
    }
    snapshot.hold().await.unwrap();
    to.admin.admit_logins(&logins).await.unwrap();
    let stall = began.elapsed();
    eprintln!(
        "stall {stall:?} from {} to {}: fenced {fenced:?}, marked {marked:?}, {} parts compared {compared:?}, sequences {sequenced:?}, carried {carried:?}",
        from.admin.version_num(),
        to.admin.version_num(),
        seen.parts
    );
    let ranges = from.ranges(1000).await.unwrap();
    let (fenced, flipped) = (from.digest(&ranges).await.unwrap(), snapshot.digest(&ranges).await.unwrap());
    assert_eq!(differing(&fenced, &flipped), Vec::new(), "{fenced:#?}\n{flipped:#?}");
    snapshot.release().await;
    stall
}

/// The way there whole, under writers, who are told where they are now.
pub async fn go_over(world: &World, plan: &mut Move, from: &Side, to: &Side, writers: &Writers) {
    copy(world, plan, from, to).await;
    prepare_back(plan, to).await;
    let (there, back) = (plan.there.clone(), plan.back.clone());
    flip(world, plan, from, to, &there, Some(&back)).await;
    writers.go_to(world.dsn_of_login(&world.new));
}

/// The old follows the new; the way there is over.
pub async fn follow_back(world: &World, plan: &Move, old: &Side, new: &Side) {
    for _ in 0..2 {
        new.unlink(&plan.there).await.unwrap();
        old.unpublish(&plan.there).await.unwrap();
        old.quiet_triggers(&plan.waking).await.unwrap();
    }
    let from = reader_dsn(world, &world.new, &plan.back, &plan.back_reader);
    for _ in 0..2 {
        old.subscribe(&plan.back, &from, Content::Equal).await.unwrap();
        old.follow_from(&plan.back, &plan.place).await.unwrap();
    }
    old.enable(&plan.back).await.unwrap();
    caught_up(world, &plan.back, old).await;
    // Whoever says so once more changes nothing.
    old.follow_from(&plan.back, &plan.place).await.unwrap();
}

/// Nothing of the move is left on the side that serves; the other side's database goes.
pub async fn retire(world: &World, plan: &Move, serves: &Side, gone: &Cluster) {
    for _ in 0..2 {
        serves.restore_identities(&plan.identities, SOON).await.unwrap();
        serves.remove_marker().await.unwrap();
    }
    let admin = world.admin(gone).await;
    for _ in 0..2 {
        admin.drop_database(&world.tenant.database).await.unwrap();
        admin.drop_roles(&world.tenant.role_names()).await.unwrap();
    }
}

/// From any point, also of one that had not begun.
pub async fn abort(world: &World, plan: &Move) {
    let target = world.admin(&world.new).await;
    if target.database_exists(&world.tenant.database).await.unwrap()
        && let Ok(new) = try_side(world, &world.new).await
    {
        new.unlink(&plan.there).await.unwrap();
        new.unpublish(&plan.back).await.unwrap();
        new.close().await;
    }
    let old = world.side(&world.old).await;
    old.admin.admit_logins(&world.tenant.login_names()).await.unwrap();
    old.unpublish(&plan.there).await.unwrap();
    old.restore_identities(&plan.identities, SOON).await.unwrap();
    old.remove_marker().await.unwrap();
    old.close().await;
    target.drop_database(&world.tenant.database).await.unwrap();
    target.drop_roles(&world.tenant.role_names()).await.unwrap();
}

async fn try_side(world: &World, cluster: &Cluster) -> Result<Side, SqlError> {
    let maintenance = dsn(cluster).with_user(&world.tenant.maintenance.name, world.maintenance_password.clone());
    Side::open(&world.admin_dsn(cluster), &maintenance, &world.tenant.database, &world.tenant.owner, "fh:test:1").await
}
