use freehold_api::movability::MoveCode;
use freehold_drivers::server::sql::movable::{Available, Locale, Waiting};
use proptest::prelude::*;

use super::*;
use crate::tenant::moving::CARRIED;

fn named(count: u64) -> Named {
    Named { count, names: (0..count.min(10)).map(|n| format!("public.t{n}")).collect() }
}

fn contents() -> Contents {
    let locale = Locale {
        encoding: "UTF8".into(),
        provider: "c".into(),
        collate: "C.UTF-8".into(),
        ctype: "C.UTF-8".into(),
        ..Locale::default()
    };
    Contents { locale, size_bytes: 108 << 20, catalog_bytes: 8 << 20, index_bytes: 20 << 20, ..Contents::default() }
}

fn host(version_num: i32) -> Host {
    Host {
        version_num,
        admin: "adm".into(),
        superuser: true,
        replication: true,
        create_subscription: true,
        createdb: true,
        createrole: true,
        wal_level: "logical".into(),
        slots: (16, 0),
        senders: (16, 0),
        logical_workers: (8, 0),
        ..Host::default()
    }
}

/// What a test may bend; everything fine, 15 to 15, until it does.
struct World {
    contents: Contents,
    source: Host,
    sessions: Sessions,
    admitted: bool,
    traffic: Option<MoveTraffic>,
    logins: Vec<String>,
    there: Host,
    locale: LocaleThere,
    against: Vec<Against>,
    free_bytes: Option<u64>,
    away: Option<&'static str>,
    to_be_made: Option<u16>,
    to: bool,
}

fn world() -> World {
    World {
        contents: contents(),
        source: host(150_013),
        sessions: Sessions::default(),
        admitted: true,
        traffic: None,
        logins: vec!["l".into()],
        there: host(150_013),
        locale: LocaleThere { exists: true, version: None },
        against: Vec::new(),
        free_bytes: Some(1 << 40),
        away: None,
        to_be_made: None,
        to: true,
    }
}

impl World {
    fn judge(&self) -> Verdict {
        let seen = match (self.away, self.to_be_made) {
            (Some(why), _) => Seen::Away(why),
            (None, Some(postgres)) => Seen::ToBeMade(postgres),
            (None, None) => Seen::There { host: &self.there, locale: &self.locale },
        };
        let target = Target { name: "server two", against: &self.against, seen, free_bytes: self.free_bytes };
        judge(&Facts {
            tenant: "acme",
            server: "one",
            logins: &self.logins,
            contents: &self.contents,
            source: &self.source,
            sessions: self.sessions,
            admitted: self.admitted,
            traffic: self.traffic,
            target: self.to.then_some(target),
        })
    }

    fn weak(version_num: i32) -> Host {
        Host { superuser: false, replication: false, create_subscription: false, ..host(version_num) }
    }
}

#[test]
fn nothing_in_the_way_is_a_hundred() {
    let verdict = world().judge();
    assert_eq!((verdict.score, verdict.methods.as_slice(), verdict.findings.as_slice()), (100, ALL, [].as_slice()));
    assert_eq!(World { to: false, ..world() }.judge().score, 100);
    let [logical, dump] = verdict.estimates.as_slice() else { panic!("{verdict:?}") };
    // 80 MB of rows at 25 and 30 MB per second, 20 MB of indexes at 20, 3 s to begin.
    assert_eq!(
        (logical.copy_bytes, logical.index_bytes, logical.seconds, logical.stall_seconds),
        (80 << 20, 20 << 20, 7.3, 0.1)
    );
    // Which are compared at 60 MB per second, with nobody let in.
    assert_eq!((dump.seconds, dump.stall_seconds), (8.1, 5.1));
    // Whom nobody lets in waits for nothing.
    let suspended = World { admitted: false, ..world() }.judge();
    let stalls: Vec<f64> = suspended.estimates.iter().map(|estimate| estimate.stall_seconds).collect();
    assert_eq!((suspended.score, suspended.methods.as_slice(), stalls), (100, ALL, vec![0.0, 0.0]));
}

type Bend = fn(&mut World);

const BENDS: &[(MoveCode, MoveSeverity, &[MoveMethod], Bend)] = {
    use MoveCode::*;
    use MoveMethod::*;
    use MoveSeverity::*;
    const BOTH: &[MoveMethod] = &[Logical, Dump];
    &[
        (NoReplicaIdentity, Slows, &[], |w| w.contents.keyless = named(3)),
        (FullReplicaIdentity, Slows, &[], |w| w.contents.full_identity = named(1)),
        (NoEquality, Blocks, &[Logical], |w| w.contents.incomparable = named(1)),
        (UnloggedTable, Slows, &[], |w| w.contents.unlogged = named(2)),
        (UnloggedTable, Blocks, &[Logical], |w| {
            (w.contents.unlogged, w.contents.unlogged_bytes) = (named(1), CARRIED + 1);
        }),
        (LargeObjects, Blocks, &[Logical], |w| {
            (w.contents.large_objects, w.contents.large_object_bytes) = (5, CARRIED + 1);
        }),
        (LargeObjects, Slows, &[], |w| (w.contents.large_objects, w.contents.large_object_bytes) = (5, 1 << 20)),
        (Sequences, Note, &[], |w| w.contents.sequences = named(7)),
        (Sequences, Slows, &[], |w| w.contents.sequences = named(1001)),
        (MaterializedView, Note, &[], |w| w.contents.materialized_views = named(1)),
        (EventTrigger, Note, &[], |w| w.contents.event_triggers = named(1)),
        (EventTrigger, Blocks, BOTH, |w| {
            w.contents.event_triggers = named(1);
            w.there = Host { create_subscription: true, ..World::weak(160_009) };
        }),
        (ForeignServer, Slows, &[], |w| w.contents.foreign = named(1)),
        (Publication, Slows, &[], |w| w.contents.publications = named(1)),
        (Publication, Note, &[], |w| w.contents.publications_of_all = named(1)),
        (Subscription, Blocks, BOTH, |w| w.contents.subscriptions = named(1)),
        (ReplicationSlot, Blocks, BOTH, |w| w.contents.slots = named(1)),
        (PreparedTransaction, Blocks, BOTH, |w| w.contents.prepared = named(1)),
        (PreparedTransaction, Blocks, &[Logical], |w| w.source.prepared.named.count = 1),
        (LongTransaction, Slows, &[], |w| w.source.writers = Waiting { named: named(1), oldest_seconds: Some(600.0) }),
        (LongTransaction, Note, &[], |w| w.source.writers = Waiting { named: named(1), oldest_seconds: None }),
        (SessionModeClients, Slows, &[], |w| w.sessions.open = 4),
        (SessionModeClients, Slows, &[], |w| {
            w.sessions = Sessions { open: 4, pooled: true };
            w.contents.sessions_with_locks = 1;
        }),
        (Suspended, Note, &[], |w| w.admitted = false),
        (AlwaysTrigger, Slows, &[], |w| w.contents.always_triggers = named(1)),
        (PartitionedTable, Note, &[], |w| w.contents.partitioned = named(1)),
        (InheritedTable, Note, &[], |w| w.contents.inherited = named(1)),
        (GeneratedColumn, Note, &[], |w| w.contents.generated = named(1)),
        (IdentityColumn, Note, &[], |w| w.contents.identity = named(1)),
        (RowSecurity, Note, &[], |w| w.contents.row_security = named(1)),
        (ForcedRowSecurity, Slows, &[], |w| w.contents.forced_row_security = named(1)),
        (SecurityLabel, Note, &[], |w| w.contents.security_labels = named(1)),
        (DatabaseSettings, Note, &[], |w| w.contents.settings = named(1)),
        (DefaultPrivileges, Note, &[], |w| w.contents.default_privileges = named(1)),
        (OwnedByLogin, Note, &[], |w| w.contents.owners = Named { count: 1, names: vec!["l".into()] }),
        (OwnedByOthers, Slows, &[], |w| w.contents.owners = Named { count: 1, names: vec!["stranger".into()] }),
        (GrantedToOthers, Note, &[], |w| w.contents.grantees = Named { count: 1, names: vec!["stranger".into()] }),
        (Tablespace, Note, &[], |w| w.contents.in_tablespaces = named(1)),
        (SuperuserObjects, Note, &[], |w| w.contents.of_superusers = named(1)),
        (ManyTables, Slows, &[], |w| w.contents.tables = named(10_000)),
        (WideRows, Slows, &[], |w| w.contents.wide = named(1)),
        (WritesOutrunCopy, Slows, &[], |w| {
            w.traffic = Some(MoveTraffic { wal_bytes_per_second: 1e6, rows_per_second: 9000.0 });
        }),
        (SourceWalLevel, Blocks, &[Logical], |w| w.source.wal_level = "replica".into()),
        (SourceSlots, Blocks, &[Logical], |w| w.source.slots = (10, 9)),
        (SourceSenders, Blocks, &[Logical], |w| w.source.senders = (10, 10)),
        (SourcePrivilege, Blocks, &[Logical], |w| w.source = World::weak(150_013)),
        (TargetFull, Blocks, BOTH, |w| w.against = vec![Against::Full("all 5 slots are taken".into())]),
        (TargetDisk, Blocks, BOTH, |w| w.against = vec![Against::Disk("its disk is full".into())]),
        (TargetDisk, Blocks, BOTH, |w| w.free_bytes = Some(109 << 20)),
        (TargetDisk, Note, &[], |w| w.free_bytes = None),
        (TargetUnfit, Blocks, BOTH, |w| w.against = vec![Against::Unfit("it is cordoned".into())]),
        (TargetUnreachable, Blocks, BOTH, |w| w.away = Some("connection refused")),
        (TargetToBeMade, Slows, &[], |w| w.to_be_made = Some(15)),
        (TargetWalLevel, Slows, &[], |w| w.there.wal_level = "replica".into()),
        (TargetSlots, Slows, &[], |w| w.there.slots = (4, 3)),
        (TargetSlots, Blocks, &[Logical], |w| w.there.slots = (4, 4)),
        (TargetWorkers, Blocks, &[Logical], |w| w.there.logical_workers = (4, 3)),
        (TargetPrivilege, Blocks, BOTH, |w| {
            w.there = Host { createrole: false, create_subscription: true, ..World::weak(180_000) }
        }),
        (NewerTarget, Note, &[], |w| w.there = host(180_000)),
        (OlderTarget, Slows, &[], |w| w.source = host(180_000)),
        (NewerFeature, Blocks, BOTH, |w| {
            w.source = host(180_000);
            w.contents.newer = named(1);
        }),
        (ExtensionMissing, Blocks, BOTH, |w| w.contents.extensions = vec![("hstore".into(), "1.8".into())]),
        (ExtensionVersion, Slows, &[], |w| extension(w, "1.7", false)),
        (ExtensionPrivilege, Blocks, BOTH, |w| {
            extension(w, "1.8", true);
            w.there.superuser = false;
        }),
        (LocaleMissing, Blocks, BOTH, |w| w.locale.exists = false),
        (CollationVersion, Slows, &[], |w| {
            (w.contents.locale.version, w.locale.version) = (Some("2.36".into()), Some("2.41".into()));
        }),
        (EncodingDiffers, Note, &[], |w| w.contents.locale.encoding = "LATIN1".into()),
    ]
};

fn extension(world: &mut World, there: &str, superuser: bool) {
    world.contents.extensions = vec![("hstore".into(), "1.8".into())];
    let available = Available { default_version: Some(there.into()), versions: vec![there.into()], superuser };
    world.there.extensions.insert("hstore".into(), available);
}

#[test]
fn each_fact_is_a_finding_and_no_code_is_without_one() {
    for (code, severity, blocked, bend) in BENDS {
        let mut world = world();
        bend(&mut world);
        let verdict = world.judge();
        let found: Vec<_> = verdict.findings.iter().filter(|finding| finding.code == *code).collect();
        let [finding] = found.as_slice() else { panic!("{code:?}: {verdict:#?}") };
        assert_eq!((finding.severity, finding.blocks.as_slice()), (*severity, *blocked), "{finding:#?}");
        assert!(!finding.message.is_empty() && finding.objects.len() as u64 <= finding.count, "{finding:#?}");
        assert!(finding.handled.is_some() || finding.next.is_some(), "{finding:#?}");
    }
    for code in MoveCode::ALL {
        assert!(BENDS.iter().any(|(known, ..)| known == code), "{code:?} is tried by nobody");
    }
}

#[test]
fn what_passes_is_told_from_what_stays() {
    use MoveCode::*;
    let passing =
        [PreparedTransaction, SourceSlots, SourceSenders, TargetFull, TargetUnreachable, TargetSlots, TargetWorkers];
    let finding = |code: MoveCode, bend: &dyn Fn(&mut World)| {
        let mut world = world();
        bend(&mut world);
        world.judge().findings.into_iter().find(|finding| finding.code == code).expect("it is found")
    };
    for (code, severity, _, bend) in BENDS {
        let passes = *severity == MoveSeverity::Blocks && passing.contains(code);
        assert_eq!(finding(*code, bend).passes, passes, "{code:?}, {severity:?}");
    }
    assert!(finding(TargetUnfit, &|w| w.against = vec![Against::Away("it is cordoned".into())]).passes);
    // Where there never are as many as a move needs, waiting does not help.
    assert!(!finding(TargetWorkers, &|w| w.there.logical_workers = (1, 0)).passes);
    assert!(!finding(TargetSlots, &|w| w.there.slots = (0, 0)).passes);
    assert!(!finding(SourceSlots, &|w| w.source.slots = (1, 0)).passes);
}

/// The matrix of docs/move.md.
#[test]
fn what_the_admin_may_do_decides_by_version() {
    let methods = |source: Host, there: Host| World { source, there, ..world() }.judge().methods;
    let replicating = |version| Host { replication: true, ..World::weak(version) };
    let subscribing = |version| Host { create_subscription: true, ..World::weak(version) };
    assert_eq!(methods(host(150_013), host(150_013)), ALL);
    assert_eq!(methods(World::weak(150_013), host(150_013)), [MoveMethod::Dump]);
    assert_eq!(methods(replicating(150_013), host(150_013)), ALL);
    for version in [160_009, 170_005, 180_000] {
        assert_eq!(methods(replicating(150_013), World::weak(version)), [MoveMethod::Dump]);
        assert_eq!(methods(replicating(version), subscribing(version)), ALL);
    }
    // There is no such role on 15: whatever it says, only a superuser subscribes.
    assert_eq!(methods(replicating(150_013), subscribing(150_013)), [MoveMethod::Dump]);
}

proptest! {
    /// Whatever is bent, and in whatever order: methods, score and findings agree, and one more never helps.
    #[test]
    fn findings_methods_and_score_agree(bent in proptest::collection::vec(0..BENDS.len(), 0..12)) {
        let mut world = world();
        let mut before = world.judge().score;
        for at in bent {
            let (_, _, _, bend) = BENDS[at];
            let lasting = world.away.is_none() && world.to_be_made.is_none();
            bend(&mut world);
            let verdict = world.judge();
            for method in MoveMethod::ALL {
                let blocked = verdict.findings.iter().any(|finding| finding.blocks.contains(&method));
                prop_assert_eq!(verdict.methods.contains(&method), !blocked);
            }
            for finding in &verdict.findings {
                prop_assert_eq!(finding.severity == MoveSeverity::Blocks, !finding.blocks.is_empty());
            }
            prop_assert!(verdict.findings.is_sorted_by_key(|finding| (finding.severity, finding.code)));
            prop_assert_eq!(verdict.estimates.len(), verdict.methods.len());
            prop_assert!(verdict.estimates.iter().all(|one| one.stall_seconds <= one.seconds && one.seconds.is_finite()));
            let range = match verdict.methods.first() {
                None => 0..=0,
                Some(MoveMethod::Dump) => 1..=40,
                Some(MoveMethod::Logical) => 41..=100,
            };
            prop_assert!(range.contains(&verdict.score), "{} of {:?}", verdict.score, verdict.methods);
            // What replaces the target by one that is not seen, or by another, takes its findings away.
            let same = lasting && world.away.is_none() && world.to_be_made.is_none() && !REPLACES.contains(&BENDS[at].0);
            prop_assert!(!same || verdict.score <= before, "{} after {before}", verdict.score);
            before = verdict.score;
        }
    }

    #[test]
    fn sizes_of_any_kind_are_estimated(size in any::<u64>(), catalog in any::<u64>(), index in any::<u64>(), tables in 0u64..1_000_000) {
        let mut world = world();
        (world.contents.size_bytes, world.contents.catalog_bytes, world.contents.index_bytes) = (size, catalog, index);
        world.contents.tables = named(tables);
        for estimate in world.judge().estimates {
            prop_assert!(estimate.seconds.is_finite() && estimate.stall_seconds <= estimate.seconds && estimate.seconds >= 3.0);
        }
    }
}

/// Those whose bend sets a whole server, a list or a number anew.
const REPLACES: &[MoveCode] = {
    use MoveCode::*;
    &[
        // What slowed blocks one method then, and no longer costs the other anything.
        UnloggedTable,
        LargeObjects,
        EventTrigger,
        SourcePrivilege,
        TargetPrivilege,
        NewerTarget,
        OlderTarget,
        NewerFeature,
        TargetFull,
        TargetDisk,
        TargetUnfit,
        Sequences,
        LongTransaction,
        SessionModeClients,
        OwnedByLogin,
        OwnedByOthers,
        TargetSlots,
        ExtensionMissing,
        ExtensionVersion,
        ExtensionPrivilege,
    ]
};
