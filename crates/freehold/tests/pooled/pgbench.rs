//! pgbench at work through a pooler, and its own log of every transaction against the history that it wrote.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use freehold_testkit::{Directory, Told, as_tenant, engine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use tokio::process::{Child, Command};

use crate::bench::PATIENCE;
use crate::story::ask;

/// A machine that tests share has time for something else.
const RATE: &str = "120";
const CLIENTS: i64 = 4;
/// It ends when it is told to.
const LONG: &str = "7200";
/// TPC-B, whose history says which transaction of which client it was. `n` is the client's own, from one to the next.
const SCRIPT: &str = "\\set aid random(1, 100000)
\\set tid random(1, 10)
\\set delta random(-5000, 5000)
\\set n :n + 1
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, client, n) VALUES (:tid, 1, :aid, :delta, now(), :client_id, :n);
END;
";

/// As many of each client, at most.
const OF_CLIENT: i64 = 1_000_000_000;

pub struct Pgbench {
    child: Child,
    directory: Directory,
}

/// What it said when it was over.
pub struct Ran {
    pub told: Told,
}

impl Pgbench {
    /// Its tables, and the columns that the history lacks.
    pub async fn fill(endpoint: &Json) {
        let filled = command(endpoint).args(["-i", "-q", "-I", "dtGvp", "-s", "1"]).output().await.unwrap();
        assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
        let client = as_tenant(endpoint).await.unwrap();
        client.batch_execute("ALTER TABLE pgbench_history ADD client int, ADD n bigint").await.unwrap();
    }

    /// `mode`: simple or prepared.
    pub fn start(endpoint: &Json, mode: &str) -> Self {
        let directory = Directory::new();
        std::fs::write(directory.path().join("script.sql"), SCRIPT).unwrap();
        let mut command = command(endpoint);
        command.args(["-n", "-c", &CLIENTS.to_string(), "-j", "2", "-T", LONG, "-R", RATE, "-M", mode, "-D", "n=0"]);
        command.args(["--log", "-f", "script.sql"]).current_dir(directory.path());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        Self { child, directory }
    }

    /// It works on, and so much later it still does.
    pub async fn more(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        assert!(self.child.try_wait().unwrap().is_none(), "pgbench gave up");
    }

    /// Each client finishes what it is at. None of them met an error, and none tried anything again.
    pub async fn end(self) -> Ran {
        // What its own clock sends it when its time is over.
        kill(Pid::from_raw(self.child.id().expect("pgbench runs").try_into().unwrap()), Signal::SIGALRM).unwrap();
        let over = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.expect("pgbench ends").unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&over.stdout), String::from_utf8_lossy(&over.stderr));
        assert!(over.status.success(), "{stdout}{stderr}");
        assert!(stdout.contains("number of failed transactions: 0 "), "{stdout}{stderr}");
        assert!(stdout.contains("maximum number of tries: 1\n"), "{stdout}{stderr}");
        assert!(!stderr.contains("error"), "{stderr}");
        let told = logged(self.directory.path());
        let processed =
            stdout.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        assert_eq!(processed, Some(told.committed.len().to_string().as_str()), "{stdout}");
        Ran { told }
    }

    /// Its connections break: it gives up by itself, and says so. Of each client the answer to one transaction may be lost.
    pub async fn breaks(self) -> Ran {
        let over = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.expect("pgbench ends").unwrap();
        let stderr = String::from_utf8_lossy(&over.stderr);
        assert!(!over.status.success() && stderr.contains("Run was aborted"), "{stderr}");
        let mut told = logged(self.directory.path());
        for client in 0..CLIENTS {
            let own = client * OF_CLIENT..(client + 1) * OF_CLIENT;
            let last = told.committed.range(own.clone()).next_back().copied().unwrap_or(own.start);
            told.unknown.insert(last + 1);
        }
        Ran { told }
    }
}

impl Ran {
    /// Each transaction of the log is in the history once, nothing else is, and all balances agree with it.
    pub async fn check(&self, direct: &Json) {
        let client = as_tenant(direct).await.unwrap();
        let sql = format!("SELECT client * {OF_CLIENT}::bigint + n FROM pgbench_history");
        let there: Vec<i64> = client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        self.told.compare("the history", &there).unwrap();
        let agree = "SELECT ((SELECT sum(delta) FROM pgbench_history) = ALL (VALUES ((SELECT sum(abalance) FROM pgbench_accounts)), \
            ((SELECT sum(tbalance) FROM pgbench_tellers)), ((SELECT sum(bbalance) FROM pgbench_branches))))::text";
        assert_eq!(ask(&client, agree).await.unwrap(), "true");
    }
}

fn command(endpoint: &Json) -> Command {
    let text = |name: &str| endpoint[name].as_str().expect("an endpoint");
    let mut command = Command::new(engine(15).join("pgbench"));
    command.env("PGHOST", text("host")).env("PGPORT", endpoint["port"].to_string()).env("PGUSER", text("user"));
    command.env("PGDATABASE", text("database")).env("PGPASSWORD", text("password")).stdin(Stdio::null());
    command.env("PGSSLMODE", text("sslmode"));
    command
}

/// Of each transaction that ended, a line: client, its number with this client, microseconds, …
fn logged(directory: &Path) -> Told {
    let mut told = Told::default();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().starts_with("pgbench_log.") {
            continue;
        }
        for line in std::fs::read_to_string(file.path()).unwrap().lines() {
            let mut fields = line.split(' ');
            let mut next = || fields.next().and_then(|field| field.parse::<i64>().ok());
            let (Some(client), Some(number), Some(_)) = (next(), next(), next()) else {
                panic!("no transaction: {line}")
            };
            assert!(told.committed.insert(client * OF_CLIENT + number), "twice in the log: {line}");
        }
    }
    told
}
