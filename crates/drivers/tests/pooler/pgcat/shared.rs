//! A PgCat that is somebody else's, with TansuCloud's file: its `[general]` and its pools stay, and ours come and go.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use freehold_drivers::pooler::pgcat::{SharedPgCat, SharedPgCatOptions};
use freehold_drivers::pooler::{Limits, Passwords, Pause, PoolerErrorKind, Served, SharedPooler, Standing};
use freehold_drivers::secrets::Password;
use freehold_drivers::server::sql::Dsn;
use freehold_testkit::PgcatConsole;

use super::{Tenant, plain};

/// As its configurator writes it, and no line's end at the end.
const FILE: &str = r#"# TansuCloud
[general]
host = "0.0.0.0"
port = 6432
connect_timeout = 3000
idle_timeout = 30000
server_lifetime = 86400000
ban_time = 60
autoreload = 15000
worker_threads = 4
admin_username = "boss"
admin_password = "secret of theirs"

[pools.tansu_identity]
pool_mode = "transaction"
query_parser_enabled = true
primary_reads_enabled = true
load_balancing_mode = "random"   # by hand
users = { 0 = { username = "postgres", password = "p", pool_size = 20 } }
shards = { 0 = { servers = [["postgres", 5432, "primary"]], database = "tansu_identity" } }"#;

struct Theirs {
    pgcat: PgcatConsole,
    tenants: Vec<Tenant>,
    directory: tempfile::TempDir,
}

impl Theirs {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcat.toml");
        fs::write(&file, FILE).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let pgcat = PgcatConsole::start(file, None, "boss", "secret of theirs").await;
        let tenants = (0..3).map(|number| plain(&format!("tansu_tenant_{number}"))).collect();
        Self { pgcat, tenants, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("pgcat.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn driver(&self, password: &str) -> SharedPgCat {
        let console = format!("postgres://x@127.0.0.1:{}/pgcat?sslmode=disable", self.pgcat.port);
        SharedPgCat::new(SharedPgCatOptions {
            pooler: "tansu".into(),
            file: self.file(),
            console: Dsn::parse(&console).unwrap().with_user("boss", Password::new(password)),
            command_limit: Duration::from_secs(10),
            pace: Duration::from_millis(10),
        })
    }

    fn passwords(&self) -> Passwords {
        self.tenants.iter().map(|tenant| (tenant.role.clone(), tenant.password.clone())).collect()
    }
}

fn served(tenants: &[Tenant]) -> Served {
    let entries = tenants.iter().map(|tenant| tenant.entry_on("db.internal", 5432)).collect();
    Served { limits: Limits::default(), entries }
}

#[tokio::test]
async fn pgcat_of_somebody_else_gains_and_loses_our_pools_alone() {
    let theirs = Theirs::start().await;
    let (driver, passwords) = (theirs.driver("secret of theirs"), theirs.passwords());
    let given = driver.give(1, &served(&theirs.tenants[..2]), &passwords).await.unwrap();
    assert_eq!((given.applied.reloads, given.withheld.len()), (1, 0));
    assert_eq!(driver.give(1, &served(&theirs.tenants[..2]), &passwords).await.unwrap().applied.reloads, 0);
    assert!(theirs.text().starts_with(FILE) && theirs.text().contains("[pools.tansu_tenant_1.users.0]"));
    assert_eq!(fs::metadata(theirs.file()).unwrap().mode() & 0o777, 0o600, "there are passwords in it");
    let names = async || -> Vec<String> {
        let stats = driver.running().stats().await.unwrap();
        stats.into_iter().map(|one| one.name).collect()
    };
    assert_eq!(names().await, ["tansu_identity", "tansu_tenant_0", "tansu_tenant_1"]);
    assert_eq!(driver.running().pause("tansu_tenant_0", Duration::from_secs(9)).await.unwrap(), Pause::Drained);
    assert!(driver.paused().await.unwrap().contains("tansu_tenant_0"));
    driver.running().resume("tansu_tenant_0").await.unwrap();

    // One is suspended, one is new, and one password is another.
    let mut next = served(&theirs.tenants);
    next.entries[0].logins[0].standing = Standing::Unusable;
    let mut rotated = passwords.clone();
    rotated.insert(theirs.tenants[1].role.clone(), Password::new("rotated"));
    driver.give(2, &next, &rotated).await.unwrap();
    assert_eq!(names().await, ["tansu_identity", "tansu_tenant_1", "tansu_tenant_2"]);
    assert!(theirs.text().contains("password = \"rotated\""));
    assert_eq!(driver.give(1, &next, &passwords).await.unwrap_err().kind, PoolerErrorKind::Outdated);
    assert_eq!(driver.written().unwrap(), Some(2));

    driver.give(3, &served(&[]), &passwords).await.unwrap();
    assert_eq!((theirs.text().as_str(), names().await), (FILE, vec!["tansu_identity".to_owned()]));
    let commands = theirs.pgcat.world().commands.join("\n");
    assert!(passwords.values().all(|password| !commands.contains(password.expose())));
}

#[tokio::test]
async fn pgcat_of_somebody_else_keeps_what_is_his_and_what_is_edited_is_put_right() {
    let theirs = Theirs::start().await;
    let (driver, mut passwords) = (theirs.driver("secret of theirs"), theirs.passwords());
    // TansuCloud had this pool already, as the superuser.
    let his = "\n[pools.tansu_tenant_0]\npool_mode = \"transaction\"\nusers = { 0 = { username = \"postgres\", password = \"p\", \
               pool_size = 20 } }\nshards = { 0 = { servers = [[\"postgres\", 5432, \"primary\"]], database = \"x\" } }\n";
    let with_his = format!("{FILE}{his}");
    fs::write(theirs.file(), &with_his).unwrap();
    passwords.remove(&theirs.tenants[2].role);
    let mut wanted = served(&theirs.tenants);
    let spaced = Tenant { role: "two words".into(), ..plain("spaced") };
    wanted.entries.push(spaced.entry_on("db.internal", 5432));
    let given = driver.give(1, &wanted, &passwords).await.unwrap();
    assert_eq!(given.withheld.keys().collect::<Vec<_>>(), ["spaced", "tansu_tenant_0", "tansu_tenant_2"]);
    assert!(given.withheld["tansu_tenant_0"].contains("did not write"), "{:?}", given.withheld);
    assert!(given.withheld["spaced"].contains("knows no quotes"), "{:?}", given.withheld);
    assert!(theirs.text().starts_with(&with_his) && theirs.text().contains("[pools.tansu_tenant_1]"));

    let written = theirs.text();
    fs::write(theirs.file(), written.replace("db.internal", "elsewhere")).unwrap();
    let given = driver.give(1, &wanted, &passwords).await.unwrap();
    assert_eq!(given.applied.repaired.into_iter().collect::<Vec<_>>(), ["pgcat.toml"]);
    assert_eq!(theirs.text(), written);
    // His tool writes the file anew, without us and without that pool.
    fs::write(theirs.file(), FILE).unwrap();
    let given = driver.give(1, &wanted, &theirs.passwords()).await.unwrap();
    assert_eq!((given.applied.repaired.len(), given.withheld.len()), (1, 1));

    theirs.pgcat.world().is_deaf = true;
    let before = theirs.text();
    let error = driver.give(2, &served(&theirs.tenants[..1]), &passwords).await.unwrap_err();
    assert!(error.kind == PoolerErrorKind::NotVerified && error.message.contains("is back"), "{error}");
    assert_eq!(theirs.text(), before);
}

#[tokio::test]
async fn pgcat_of_somebody_else_is_not_added_to_where_that_would_break_it() {
    let theirs = Theirs::start().await;
    let (driver, passwords) = (theirs.driver("secret of theirs"), theirs.passwords());
    let wanted = served(&theirs.tenants);
    for (text, why) in [
        ("[general]\nadmin_username = \"boss\n", "no TOML from line 2"),
        ("[pools]\n", "no [general]"),
        ("pools = {}\n[general]\n", "as one value"),
        ("pools = 1\n[general]\n", "no table"),
    ] {
        fs::write(theirs.file(), text).unwrap();
        let error = driver.give(1, &wanted, &passwords).await.unwrap_err();
        assert!(error.kind == PoolerErrorKind::Refused && error.message.contains(why), "{text}: {error}");
        assert_eq!(theirs.text(), text);
    }
    fs::write(theirs.file(), FILE).unwrap();
    let error = theirs.driver("wrong").give(1, &wanted, &passwords).await.unwrap_err();
    assert_eq!((error.kind, theirs.text().as_str()), (PoolerErrorKind::Denied, FILE), "{error}");

    // Down: it finds them at its start.
    let Theirs { pgcat, tenants, directory } = theirs;
    let port = pgcat.port;
    drop(pgcat);
    let error = driver.give(1, &wanted, &passwords).await.unwrap_err();
    assert!(
        error.kind == PoolerErrorKind::Unreachable && error.message.contains("counts from its start"),
        "{port}: {error}"
    );
    let text = fs::read_to_string(directory.path().join("pgcat.toml")).unwrap();
    assert!(tenants.iter().all(|tenant| text.contains(&format!("[pools.{}]", tenant.entry))));
}
