//! PgCat's driver. What this cannot show is how a real one behaves.

mod shared;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use freehold_drivers::pooler::pgcat::{PgCat, PgCatOptions, PlainPasswords, render};
use freehold_drivers::pooler::{ClientTls, Configuration, Pause, Pooler, PoolerErrorKind, ServerTls, Standing};
use freehold_drivers::secrets::Password;
use freehold_drivers::server::sql::Dsn;
use freehold_testkit::PgcatConsole;

use crate::bench::{ADMIN, Keys, Tenant};

struct Bench {
    pgcat: PgcatConsole,
    driver: PgCat,
    keys: Keys,
    tenants: Vec<Tenant>,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcat.toml");
        let keys = Keys::new();
        let pgcat = PgcatConsole::start(file.clone(), None, ADMIN, keys.admin.expose()).await;
        let tenants: Vec<Tenant> = (0..3).map(|number| plain(&format!("tenant{number}"))).collect();
        let console = Dsn::parse(&format!("postgres://x@127.0.0.1:{}/pgcat?sslmode=disable", pgcat.port)).unwrap();
        let mut options = PgCatOptions::new(file, console.with_user(ADMIN, keys.admin.clone()));
        options.pace = Duration::from_millis(10);
        let driver = PgCat::new(options, passwords(&keys, &tenants));
        Self { pgcat, driver, keys, tenants, directory }
    }

    fn configuration(&self, generation: u64, tenants: &[Tenant]) -> Configuration {
        let mut wanted = self.keys.configuration(generation, 6432);
        wanted.entries = tenants.iter().map(|tenant| tenant.entry_on("db.internal", 5432)).collect();
        wanted
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("pgcat.toml")
    }
}

/// Its console knows no quotes.
fn plain(name: &str) -> Tenant {
    Tenant { role: format!("{name}_login"), ..Tenant::new(name) }
}

fn passwords(keys: &Keys, tenants: &[Tenant]) -> PlainPasswords {
    let logins = tenants.iter().map(|tenant| (tenant.role.clone(), tenant.password.clone()));
    PlainPasswords { admin: keys.admin.clone(), logins: logins.collect() }
}

#[tokio::test]
async fn pgcat_serves_what_is_wanted_and_proves_it() {
    let bench = Bench::start().await;
    let wanted = bench.configuration(1, &bench.tenants);
    let applied = bench.driver.apply(&wanted).await.unwrap();
    assert_eq!((applied.generation, applied.reloads), (1, 1));
    assert!(applied.left_out.contains("max_db_connections"));
    assert_eq!(bench.driver.apply(&wanted).await.unwrap().reloads, 0);
    assert_eq!(std::fs::metadata(bench.file()).unwrap().mode() & 0o777, 0o600);
    assert_eq!(bench.driver.version().await.unwrap(), "1.2.0");

    let mut next = bench.configuration(2, &bench.tenants[1..]);
    next.entries[1].logins[0].standing = Standing::Unusable;
    bench.driver.apply(&next).await.unwrap();
    let stats = bench.driver.stats().await.unwrap();
    assert_eq!(stats.len(), 1);
    assert_eq!(
        (stats[0].name.as_str(), stats[0].host.as_str(), stats[0].database.as_str()),
        ("tenant1", "db.internal", "tenant1 db")
    );
    assert_eq!((stats[0].totals.queries, stats[0].pools[0].maxwait), (4, Duration::from_millis(1_500)));
    let error = bench.driver.apply(&wanted).await.unwrap_err();
    assert_eq!(error.kind, PoolerErrorKind::Outdated, "{error}");
    let observed = bench.driver.observe().await.unwrap();
    assert_eq!((observed.written, observed.loaded, observed.databases), (Some(2), None, 1));

    // Only what PgCat was told is in its log of commands, and no password.
    let commands = bench.pgcat.world().commands.join("\n");
    assert!(bench.tenants.iter().all(|tenant| !commands.contains(tenant.password.expose())));
}

#[tokio::test]
async fn pgcat_that_answers_success_and_does_nothing_is_noticed() {
    let bench = Bench::start().await;
    let first = bench.configuration(1, &bench.tenants[..2]);
    bench.driver.apply(&first).await.unwrap();
    let written = std::fs::read_to_string(bench.file()).unwrap();
    bench.pgcat.world().is_deaf = true;
    let error = bench.driver.apply(&bench.configuration(2, &bench.tenants)).await.unwrap_err();
    assert_eq!(error.kind, PoolerErrorKind::NotVerified);
    assert!(error.message.contains("tenant2") && error.message.contains("the file of before is back"), "{error}");
    assert_eq!(std::fs::read_to_string(bench.file()).unwrap(), written);
    bench.pgcat.world().is_deaf = false;

    std::fs::write(bench.file(), written.replace("tenant1", "tenant9")).unwrap();
    assert!(bench.driver.observe().await.unwrap().edited.contains("pgcat.toml"));
    let applied = bench.driver.apply(&first).await.unwrap();
    assert!(applied.repaired.contains("pgcat.toml") && applied.reloads == 1);
    assert_eq!(std::fs::read_to_string(bench.file()).unwrap(), written);
}

#[tokio::test]
async fn pgcat_pauses_with_a_deadline() {
    let bench = Bench::start().await;
    bench.driver.apply(&bench.configuration(1, &bench.tenants)).await.unwrap();
    assert_eq!(bench.driver.pause("tenant0", Duration::from_secs(9)).await.unwrap(), Pause::Drained);
    assert_eq!(bench.driver.observe().await.unwrap().paused.into_iter().collect::<Vec<_>>(), ["tenant0"]);
    bench.driver.resume("tenant0").await.unwrap();
    bench.pgcat.world().busy.insert(("tenant1".into(), "tenant1_login".into()), 1);
    let Pause::Held(holders) = bench.driver.pause("tenant1", Duration::from_millis(80)).await.unwrap() else {
        panic!("it is busy")
    };
    assert_eq!(holders[0].user, "tenant1_login");
    assert!(bench.pgcat.world().paused.is_empty());
    assert_eq!(bench.driver.pause("nobody", Duration::from_secs(9)).await.unwrap_err().kind, PoolerErrorKind::Missing);
}

#[tokio::test]
async fn pgcat_refuses_what_it_cannot_do() {
    let bench = Bench::start().await;
    let plain = passwords(&bench.keys, &bench.tenants);
    let good = bench.configuration(1, &bench.tenants);
    let refused = |wanted: &Configuration, passwords: &PlainPasswords| render(wanted, passwords).unwrap_err();
    let mut tls = good.clone();
    tls.client_tls = ClientTls::Required { certificate: "/c".into(), key: "/k".into() };
    assert!(refused(&tls, &plain).message.contains("cannot insist on TLS"));
    tls.client_tls = ClientTls::Offered { certificate: "/c".into(), key: "/k".into() };
    assert!(render(&tls, &plain).unwrap().contains("tls_certificate = \"/c\""));
    tls.server_tls = ServerTls::VerifyFull { ca: "/ca".into() };
    assert!(refused(&tls, &plain).message.contains("authority"));
    let mut spaced = good.clone();
    spaced.entries[0].name = "two words".into();
    assert_eq!(refused(&spaced, &plain).kind, PoolerErrorKind::Refused);
    let nobody = PlainPasswords { admin: bench.keys.admin.clone(), logins: BTreeMap::new() };
    assert!(refused(&good, &nobody).message.contains("tenant0_login"));

    let mut wrong = PgCatOptions::new(bench.file(), Dsn::parse("postgres://x@127.0.0.1:1/x?sslmode=disable").unwrap());
    assert_eq!(
        PgCat::new(wrong.clone(), plain.clone()).apply(&good).await.unwrap_err().kind,
        PoolerErrorKind::Unreachable
    );
    wrong.console = wrong.console.with_host("127.0.0.1", bench.pgcat.port).with_user(ADMIN, Password::random(9));
    assert_eq!(PgCat::new(wrong, plain).apply(&good).await.unwrap_err().kind, PoolerErrorKind::Denied);
}
