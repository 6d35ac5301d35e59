//! A PgBouncer that is somebody else's: hand-written databases and users stay, and ours come and go.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use freehold_drivers::pooler::pgbouncer::{SharedOptions, SharedPgBouncer};
use freehold_drivers::pooler::{
    ConsoleLogin, Given, Limits, Pause, PoolerError, PoolerErrorKind, Served, SharedPooler, Standing,
};
use freehold_drivers::secrets::Password;
use freehold_drivers::server::sql::{Dsn, Session};
use freehold_testkit::Cluster;

use crate::bench::{Bench, Tenant, ask, verifier};

/// Their administrator, and one of their users.
const BOSS: &str = "boss";

struct Theirs {
    bench: Bench,
    boss: Password,
    /// Theirs, by hand.
    legacy: Tenant,
    check: Password,
    before: (String, String),
}

impl Theirs {
    async fn start(version: &str) -> Self {
        let mut theirs = Self::stopped(version, "").await;
        theirs.bench.pooler.start();
        theirs
    }

    /// `more` is at the end of their ini file.
    async fn stopped(version: &str, more: &str) -> Self {
        let bench = Bench::stopped(version, Cluster::start(15));
        let legacy = Tenant { role: "legacy".into(), database: "legacy".into(), ..Tenant::new("legacy") };
        bench.make(&legacy).await;
        let boss = Password::random(20);
        let (home, port) = (bench.pooler.directory().display().to_string(), bench.pooler.port());
        let server = bench.cluster.port();
        let ini = format!(
            "; Written by hand, in 2019.\n[databases]\nlegacy = host=127.0.0.1 port={server} dbname=legacy\n\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {home}\nauth_type = scram-sha-256\n\
             auth_file = {home}/userlist.txt\nadmin_users = {BOSS}\npool_mode = session\n{more}"
        );
        let users = format!("\"{BOSS}\" \"{}\"\n\"legacy\" \"{}\"", boss.expose(), legacy.verifier.as_str());
        let theirs = Self { bench, boss, legacy, check: Password::random(20), before: (ini, users) };
        theirs.write(&theirs.ini(), &theirs.before.0);
        theirs.write(&theirs.users(), &theirs.before.1);
        theirs
    }

    fn ini(&self) -> PathBuf {
        self.bench.pooler.ini()
    }

    fn users(&self) -> PathBuf {
        self.bench.pooler.directory().join("userlist.txt")
    }

    fn write(&self, path: &std::path::Path, text: &str) {
        fs::write(path, text).unwrap();
        self.bench.pooler.give_away(path);
    }

    fn files(&self) -> (String, String) {
        (fs::read_to_string(self.ini()).unwrap(), fs::read_to_string(self.users()).unwrap())
    }

    fn options(&self) -> SharedOptions {
        let console = format!("postgres://x@127.0.0.1:{}/pgbouncer?sslmode=disable", self.bench.pooler.port());
        SharedOptions {
            pooler: "edge-1".into(),
            ini: self.ini(),
            users: self.users(),
            console: Dsn::parse(&console).unwrap().with_user(BOSS, self.boss.clone()),
            check: ConsoleLogin { name: "freehold_check".into(), verifier: verifier(&self.check) },
            check_password: self.check.clone(),
            release: None,
            command_limit: Duration::from_secs(10),
            pace: Duration::from_millis(20),
        }
    }

    fn served(&self, tenants: &[Tenant]) -> Served {
        Served { limits: Limits::default(), entries: tenants.iter().map(|tenant| self.bench.entry(tenant)).collect() }
    }

    async fn give(&self, driver: &SharedPgBouncer, generation: u64, tenants: &[Tenant]) -> Given {
        let given = driver.give(generation, &self.served(tenants), &BTreeMap::new()).await;
        given.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.bench.pooler.log(), self.files().0))
    }

    async fn fails(&self, driver: &SharedPgBouncer, generation: u64, tenants: &[Tenant]) -> PoolerError {
        driver.give(generation, &self.served(tenants), &BTreeMap::new()).await.unwrap_err()
    }
}

pub async fn ours_come_and_go_and_theirs_stay(version: &str) {
    let theirs = Theirs::start(version).await;
    let tenants = theirs.bench.tenants(3).await;
    let driver = SharedPgBouncer::new(theirs.options());
    let given = theirs.give(&driver, 1, &tenants[..2]).await;
    assert_eq!((given.applied.reloads, given.withheld.len()), (1, 0));
    assert_eq!(theirs.give(&driver, 1, &tenants[..2]).await.applied.reloads, 0);
    assert_eq!(driver.running().version().await.unwrap().split('.').nth(1), version.split('.').nth(1));
    for tenant in tenants[..2].iter().chain([&theirs.legacy]) {
        let session = theirs.bench.login(tenant).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ask(&session, "select current_database()").await, tenant.database);
    }
    // Its list of users lets a login ask for another's; the server does not.
    assert!(theirs.bench.login_to(&tenants[0], &tenants[1].entry).await.is_err());

    let given = theirs.give(&driver, 2, &tenants[1..]).await;
    assert_eq!((given.applied.reloads, given.applied.repaired.len()), (1, 0));
    assert!(theirs.bench.login(&tenants[0]).await.is_err());
    assert!(theirs.bench.login(&tenants[2]).await.is_ok());
    let mut suspended = theirs.served(&tenants[1..]);
    suspended.entries[0].logins[0].standing = Standing::Unusable;
    driver.give(3, &suspended, &BTreeMap::new()).await.unwrap();
    assert!(theirs.bench.login(&tenants[1]).await.is_err());
    let stats = driver.running().stats().await.unwrap();
    assert!(stats.iter().any(|one| one.name == "tenant2") && stats.iter().any(|one| one.name == "legacy"));

    assert_eq!(driver.running().pause("tenant2", Duration::from_secs(9)).await.unwrap(), Pause::Drained);
    assert_eq!(driver.paused().await.unwrap().into_iter().collect::<Vec<_>>(), ["tenant2"]);
    driver.running().resume("tenant2").await.unwrap();

    assert_eq!(theirs.fails(&driver, 2, &tenants).await.kind, PoolerErrorKind::Outdated);
    let another = SharedPgBouncer::new(theirs.options());
    assert_eq!(theirs.fails(&another, 2, &tenants).await.kind, PoolerErrorKind::Outdated);
    assert_eq!(another.written().unwrap(), Some(3));
    let namesake = SharedPgBouncer::new(SharedOptions { pooler: "edge-2".into(), ..theirs.options() });
    assert_eq!(theirs.fails(&namesake, 9, &tenants).await.kind, PoolerErrorKind::Conflict);

    // Without tenants they are what they were, byte for byte.
    theirs.give(&driver, 4, &[]).await;
    assert_eq!(theirs.files(), theirs.before);
    assert!(theirs.bench.login(&theirs.legacy).await.is_ok());
}

pub async fn what_happened_while_it_was_down_counts_from_its_start(version: &str) {
    let mut theirs = Theirs::start(version).await;
    let tenants = theirs.bench.tenants(3).await;
    let driver = SharedPgBouncer::new(theirs.options());
    theirs.give(&driver, 1, &tenants[..2]).await;
    theirs.bench.pooler.kill();
    let error = theirs.fails(&driver, 2, &tenants[1..]).await;
    assert_eq!((error.kind, error.is_transient()), (PoolerErrorKind::Unreachable, true), "{error}");
    assert!(error.message.contains("count from its start"), "{error}");
    theirs.bench.pooler.start();
    assert!(theirs.bench.login(&tenants[2]).await.is_ok() && theirs.bench.login(&tenants[0]).await.is_err());
    assert_eq!(theirs.give(&driver, 2, &tenants[1..]).await.applied.reloads, 0);
}

pub async fn what_was_edited_is_put_right_and_what_is_theirs_is_not(version: &str) {
    let theirs = Theirs::start(version).await;
    let tenants = theirs.bench.tenants(2).await;
    let driver = SharedPgBouncer::new(theirs.options());
    theirs.give(&driver, 1, &tenants).await;
    let (ini, users) = theirs.files();

    // In our block: undone. Below and above: theirs, and kept.
    let edited = ini.replace("tenant1 = ", "tenant7 = ").replace("in 2019", "in 2020") + "; below\n";
    theirs.write(&theirs.ini(), &edited);
    let given = theirs.give(&driver, 1, &tenants).await;
    assert_eq!(given.applied.repaired.into_iter().collect::<Vec<_>>(), ["pgbouncer.ini"]);
    assert_eq!(theirs.files().0, ini.replace("in 2019", "in 2020") + "; below\n");
    // A whole block gone: their tool has written the file anew.
    theirs.write(&theirs.users(), &theirs.before.1);
    let given = theirs.give(&driver, 1, &tenants).await;
    assert_eq!(given.applied.repaired.into_iter().collect::<Vec<_>>(), ["userlist.txt"]);
    assert_eq!(theirs.files().1, users);
    assert!(theirs.bench.login(&tenants[1]).await.is_ok());

    // A pool of theirs has a name of ours: it stays, and the others are served.
    let server = theirs.bench.cluster.port();
    let mine = format!("tenant1 = host=127.0.0.1 port={server} dbname=legacy\n");
    theirs.write(&theirs.ini(), &theirs.files().0.replacen("legacy = ", &format!("{mine}legacy = "), 1));
    let given = theirs.give(&driver, 2, &tenants).await;
    assert_eq!(given.withheld.keys().collect::<Vec<_>>(), ["tenant1"]);
    assert!(given.withheld["tenant1"].contains("did not write"), "{:?}", given.withheld);
    let session = theirs.bench.login_to(&theirs.legacy, "tenant1").await.unwrap();
    assert_eq!(ask(&session, "select current_database()").await, "legacy");
    assert!(theirs.bench.login(&tenants[0]).await.is_ok());
    // A login of theirs, likewise; and gone again.
    theirs.write(&theirs.ini(), &theirs.files().0.replacen(&mine, "", 1));
    let mine = format!("{}\n\"tenant0 login\" \"by hand\"\n", theirs.files().1);
    theirs.write(&theirs.users(), &mine);
    let given = theirs.give(&driver, 2, &tenants).await;
    assert_eq!(given.withheld.keys().collect::<Vec<_>>(), ["tenant0"]);
    theirs.write(&theirs.users(), &theirs.files().1.replace("\n\"tenant0 login\" \"by hand\"\n", ""));
    assert_eq!(theirs.give(&driver, 2, &tenants).await.withheld.len(), 0);
    assert!(theirs.bench.login(&tenants[0]).await.is_ok() && theirs.bench.login(&tenants[1]).await.is_ok());

    // Half a block: nobody knows which lines are whose, and nothing is touched.
    let half = theirs.files().0.replace("; Freehold ends.\n", "");
    theirs.write(&theirs.ini(), &half);
    let error = theirs.fails(&driver, 3, &tenants).await;
    assert!(error.kind == PoolerErrorKind::Conflict && error.message.contains("remove the other mark"), "{error}");
    assert_eq!(theirs.files().0, half);
}

pub async fn names_that_cannot_be_written_keep_nobody_else_out(version: &str) {
    let theirs = Theirs::start(version).await;
    let mut tenants = theirs.bench.tenants(1).await;
    let odd = Tenant { entry: "odd".into(), ..Tenant::new("o'd \"d\"; = [x] %é") };
    theirs.bench.make(&odd).await;
    tenants.push(odd.clone());
    tenants.push(Tenant { entry: "two words".into(), ..Tenant::new("a") });
    tenants.push(Tenant { role: "two\nlines".into(), ..Tenant::new("b") });
    let driver = SharedPgBouncer::new(theirs.options());
    let given = theirs.give(&driver, 1, &tenants).await;
    assert_eq!(given.withheld.keys().collect::<Vec<_>>(), ["b", "two words"]);
    for tenant in &tenants[..2] {
        let session = theirs.bench.login(tenant).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ask(&session, "select current_database()").await, tenant.database);
    }
}

pub async fn what_hinders_it_is_named_and_nothing_is_half_done(version: &str) {
    let theirs = Theirs::start(version).await;
    let tenants = theirs.bench.tenants(2).await;
    let driver = SharedPgBouncer::new(theirs.options());
    theirs.give(&driver, 1, &tenants[..1]).await;
    let there = theirs.files();
    let fails = async |options: SharedOptions| theirs.fails(&SharedPgBouncer::new(options), 2, &tenants).await;

    let mut wrong = theirs.options();
    wrong.console = wrong.console.with_user(BOSS, Password::random(20));
    let error = fails(wrong).await;
    assert!(error.kind == PoolerErrorKind::Denied && error.message.contains("its present password"), "{error}");

    // Not what it is said to be.
    let error = fails(SharedOptions { ini: "/proc/version".into(), ..theirs.options() }).await;
    assert!(error.kind == PoolerErrorKind::Refused && error.message.contains("/proc/version"), "{error}");
    assert_eq!(theirs.files(), there);
    // The first of two files is written, the second cannot be: both are as before.
    let in_the_way = theirs.bench.pooler.directory().join(".pgbouncer.ini.freehold-new");
    fs::create_dir(&in_the_way).unwrap();
    let error = fails(theirs.options()).await;
    assert!(error.message.contains("pgbouncer.ini"), "{error}");
    assert_eq!(theirs.files(), there);
    fs::remove_dir(in_the_way).unwrap();
    let absent = theirs.bench.pooler.directory().join("absent.txt");
    let error = fails(SharedOptions { users: absent, ..theirs.options() }).await;
    assert!(error.kind == PoolerErrorKind::NotWritable && error.message.contains("absent.txt"), "{error}");

    // Not the list of users that it reads.
    let other = theirs.bench.pooler.directory().join("other.txt");
    theirs.write(&other, "");
    theirs.write(&theirs.users(), &theirs.before.1);
    let error = fails(SharedOptions { users: other.clone(), ..theirs.options() }).await;
    assert!(error.kind == PoolerErrorKind::NotVerified && error.message.contains("other.txt"), "{error}");
    assert!(error.message.contains("what was there before is back"), "{error}");
    assert_eq!((theirs.files().0, fs::read_to_string(other).unwrap()), (there.0.clone(), String::new()));
    theirs.write(&theirs.users(), &there.1);

    // A line of theirs that cannot be read is below ours, and hinders nobody of us.
    theirs.write(&theirs.users(), &format!("{}\nbroken", there.1));
    theirs.give(&driver, 2, &tenants).await;
    assert!(theirs.bench.login(&tenants[1]).await.is_ok());

    // Anybody may enter: a list of verifiers protects nobody.
    theirs.write(&theirs.ini(), &theirs.files().0.replace("auth_type = scram-sha-256", "auth_type = trust"));
    reload(&theirs).await;
    let error = theirs.fails(&driver, 3, &tenants).await;
    assert!(error.kind == PoolerErrorKind::Refused && error.message.contains("\"trust\""), "{error}");
}

pub async fn wildcards_and_included_files_are_theirs_too(version: &str) {
    let mut theirs = Theirs::stopped(version, "").await;
    let (home, server) = (theirs.bench.pooler.directory().to_owned(), theirs.bench.cluster.port());
    let more = home.join("more.ini");
    theirs.write(&more, &format!("tenant0 = host=127.0.0.1 port={server} dbname=legacy\n"));
    let include = format!("[databases]\n%include {}\n", more.display());
    theirs.write(&theirs.ini(), &theirs.before.0.replace("[databases]\n", &include));
    theirs.bench.pooler.start();
    let tenants = theirs.bench.tenants(2).await;
    let driver = SharedPgBouncer::new(theirs.options());
    let given = theirs.give(&driver, 1, &tenants).await;
    assert_eq!(given.withheld.keys().collect::<Vec<_>>(), ["tenant0"]);
    assert!(theirs.bench.login_to(&theirs.legacy, "tenant0").await.is_ok());
    assert_eq!(theirs.give(&driver, 1, &tenants).await.applied.reloads, 0);

    // With a wildcard nobody is told that there is no such database; ours are served all the same.
    let open = format!("[databases]\n* = host=127.0.0.1 port={server}\n");
    theirs.write(&theirs.ini(), &theirs.before.0.replace("[databases]\n", &open));
    let given = theirs.give(&driver, 2, &tenants).await;
    assert_eq!(given.withheld.len(), 0);
    for tenant in tenants.iter().chain([&theirs.legacy]) {
        let session = theirs.bench.login(tenant).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ask(&session, "select current_database()").await, tenant.database);
    }
}

pub async fn access_rules_of_theirs_decide_who_gets_in(version: &str) {
    let mut theirs = Theirs::stopped(version, "").await;
    let rules = theirs.bench.pooler.directory().join("rules.conf");
    theirs.write(&rules, "host all all 127.0.0.1/32 scram-sha-256\n");
    let hba = format!("auth_type = hba\nauth_hba_file = {}\n", rules.display());
    theirs.write(&theirs.ini(), &theirs.before.0.replace("auth_type = scram-sha-256\n", &hba));
    theirs.bench.pooler.start();
    let tenants = theirs.bench.tenants(1).await;
    let driver = SharedPgBouncer::new(theirs.options());
    assert_eq!(theirs.give(&driver, 1, &tenants).await.applied.reloads, 1);
    assert!(theirs.bench.login(&tenants[0]).await.is_ok());
    // They let their own in, and nobody of ours.
    theirs.write(&rules, &format!("host all {BOSS},legacy 127.0.0.1/32 scram-sha-256\n"));
    reload(&theirs).await;
    let error = theirs.fails(&driver, 2, &tenants).await;
    assert!(error.kind == PoolerErrorKind::NotVerified && error.message.contains("access rules"), "{error}");
    assert!(theirs.files().0.contains("generation 1 "), "what was there is back");
}

async fn reload(theirs: &Theirs) {
    let console = Session::connect(&theirs.options().console, Some("pgbouncer"), "by hand", &[]).await.unwrap();
    console.simple_query("RELOAD").await.unwrap();
}
