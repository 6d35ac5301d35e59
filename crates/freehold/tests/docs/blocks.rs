//! Runs every ```sh block, in order, page by page, against a real plane.
//!
//! A block tagged `background` is what the reader leaves running in another terminal: it is started, waited for, and ended
//! with the page, or when a later one listens at the same place. A page without one gets a `freehold dev` to talk to.
//! A block tagged `no-run` is not run, and is listed here. What differs from the reader's terminal: ports, HOME and the
//! data directory, and the two connection strings that only the reader knows.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use freehold_testkit::{ADMIN, Cluster, Directory, Port, Running};

use crate::{pages, read};

/// Page, and the first line of the block.
const NOT_RUN: [(&str, &str); 8] = [
    ("CONTRIBUTING.md", "make check   # formatting, clippy, rustdoc, licences and bans"),
    ("CONTRIBUTING.md", "cargo nextest run -p freehold-durable"),
    (
        "README.md",
        "make demo   # from nothing to three tenants, each in its own database and refused at its neighbours'",
    ),
    ("README.md", "cargo install --locked --path crates/freehold"),
    ("README.md", "export STORE_URL='postgres://freehold:…@db.internal:5432/freehold_control?sslmode=verify-full'"),
    ("docs/operate.md", "systemctl restart freehold"),
    ("docs/poolers.md", "freehold pooler add front --platform process"),
    ("docs/secure.md", "export ADMIN_DSN='postgres://postgres:…@db1.internal:5432/postgres'"),
];

const STORE_PASSWORD: &str = "docsStorePassword1";

pub struct Block {
    pub line: usize,
    pub tag: String,
    pub text: String,
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: number + 1, tag: info.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a ``` is not closed");
    blocks
}

#[test]
fn blocks_that_are_not_run_are_listed() {
    let mut found = Vec::new();
    for page in pages() {
        for block in blocks(&read(&page)) {
            match block.tag.as_str() {
                "sh no-run" => found.push((page.clone(), block.text.lines().next().unwrap_or_default().to_owned())),
                "sh" | "sh background" | "text" | "toml" | "sql" | "json" | "rust" => {}
                tag => panic!("{page}:{}: a block tagged {tag:?} is neither run nor known", block.line),
            }
        }
    }
    for (page, first) in &found {
        assert!(NOT_RUN.contains(&(page.as_str(), first.as_str())), "{page}: not listed in NOT_RUN: {first}");
    }
}

#[test]
fn blocks_of_the_readme_run() {
    run("README.md");
}

#[test]
fn blocks_of_contributing_run() {
    run("CONTRIBUTING.md");
}

#[test]
fn blocks_of_operate_run() {
    run("docs/operate.md");
}

#[test]
fn blocks_of_templates_run() {
    run("docs/templates.md");
}

#[test]
fn blocks_of_audit_run() {
    run("docs/audit.md");
}

#[test]
fn blocks_of_secure_run() {
    run("docs/secure.md");
}

#[test]
fn blocks_of_servers_run() {
    run("docs/servers.md");
}

#[test]
fn blocks_of_adopt_run() {
    run("docs/adopt.md");
}

#[test]
fn blocks_of_import_run() {
    run("docs/import.md");
}

#[test]
fn blocks_of_server_pools_run() {
    run("docs/server-pools.md");
}

#[test]
fn blocks_of_saasodoo_run() {
    run("docs/saasodoo.md");
}

#[test]
fn blocks_of_tansucloud_run() {
    run("docs/tansucloud.md");
}

#[test]
fn blocks_of_health_run() {
    run("docs/health.md");
}

#[test]
fn blocks_of_runbooks_for_servers_run() {
    run("docs/runbooks/servers.md");
}

#[test]
fn blocks_of_runbooks_for_tenants_run() {
    run("docs/runbooks/tenants.md");
}

#[test]
fn blocks_of_runbooks_for_the_control_plane_run() {
    run("docs/runbooks/control-plane.md");
}

#[test]
fn blocks_of_poolers_run() {
    run("docs/poolers.md");
}

#[test]
fn blocks_of_pooler_agent_run() {
    run("docs/pooler-agent.md");
}

#[test]
fn blocks_of_move_run() {
    run("docs/move.md");
}

#[test]
fn blocks_of_plans_run() {
    run("docs/plans.md");
}

#[test]
fn blocks_of_api_run() {
    run("docs/api.md");
}

/// Started at a page's `sh background` blocks.
const START: &str = r#"
ready() {
    for _ in $(seq 600); do
        kill -0 "$1" 2>/dev/null || { echo "it ended; its output:"; cat "$3"; exit 1; }
        curl -fs -o ready.json "http://$2/health/ready" && return
        sleep 0.1
    done
    echo "not ready at $2; its output:"; cat "$3"; exit 1
}
stop() {
    local pid=${running[$1]-}
    [ -z "$pid" ] || { kill -TERM "$pid"; wait "$pid"; unset "running[$1]"; }
}
stop_all() {
    status=$?
    for at in "${!running[@]}"; do kill -TERM "${running[$at]}" || true; done
    wait
    exit "$status"
}
declare -A running=()
trap stop_all EXIT
"#;

fn run(page: &str) {
    let text = read(page);
    let blocks = blocks(&text);
    if !blocks.iter().any(|block| block.tag == "sh") {
        return;
    }
    let directory = Directory::new();
    let (api, postgres, serve, pooler) = (Port::reserve(), Port::reserve(), Port::reserve(), Port::reserve());
    let place = |text: &str| {
        text.replace("127.0.0.1:8400", &format!("127.0.0.1:{}", api.number))
            .replace("127.0.0.1:8500", &format!("127.0.0.1:{}", serve.number))
    };
    let mut script = String::from("set -euo pipefail\n");
    script.push_str(START);
    let dev = Block { line: 0, tag: "sh background".into(), text: "freehold dev --stock 3\n".into() };
    let starts_its_own = blocks.iter().any(|block| block.tag == "sh background");
    for block in Some(&dev).filter(|_| !starts_its_own).into_iter().chain(&blocks) {
        let text = place(&block.text);
        let _ = writeln!(script, "printf '\\n--- {page}:{}\\n' >&2", block.line);
        match block.tag.as_str() {
            "sh" => script.push_str(&text),
            "sh background" => {
                let (command, at) = match text.contains("freehold dev") {
                    true => {
                        let at = format!("127.0.0.1:{}", api.number);
                        let (postgres, pooler) = (postgres.number, pooler.number);
                        let here =
                            format!("freehold dev --listen {at} --postgres-port {postgres} --pooler-port {pooler}");
                        (text.trim().replace("freehold dev", &here), at)
                    }
                    false => (text.trim().to_owned(), format!("127.0.0.1:{}", serve.number)),
                };
                let _ = writeln!(script, "stop {at}");
                let _ = writeln!(script, "exec_{} () {{ exec {command}; }}", block.line);
                let _ = writeln!(script, "exec_{0} > background-{0} 2>&1 & running[{at}]=$!", block.line);
                let _ = writeln!(script, "ready \"${{running[{at}]}}\" {at} background-{}", block.line);
            }
            _ => {}
        }
    }
    let file = directory.path().join("page.sh");
    std::fs::write(&file, script).expect("write the page's commands");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_freehold"));
    let path =
        format!("{}:{}", binary.parent().expect("its directory").display(), std::env::var("PATH").expect("PATH"));
    let work = directory.path().join("work");
    std::fs::create_dir(&work).expect("make a directory to work in");
    let mut command = Command::new("bash");
    command.arg(&file).current_dir(&work).env("PATH", path).env("HOME", directory.path());
    command.env("FREEHOLD_DATA_DIR", directory.path().join("data"));
    command.env("FREEHOLD_CONTEXT", directory.path().join("data/client.toml"));
    for name in ["FREEHOLD_URL", "FREEHOLD_API_KEY", "FREEHOLD_SETTINGS", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    let external = text.contains("$STORE_URL") || text.contains("$ADMIN_DSN");
    let cluster = external.then(|| Cluster::start(15));
    if let Some(cluster) = &cluster {
        let admin = cluster.dsn(ADMIN);
        // As production wants it: a role of its own.
        let role = format!("CREATE ROLE freehold LOGIN PASSWORD '{STORE_PASSWORD}'");
        let made = Command::new("psql")
            .args(["-X", "-q", &admin, "-c", &role, "-c", "CREATE DATABASE freehold_control OWNER freehold"])
            .status();
        assert!(made.expect("psql runs").success(), "make the control store's database");
        command.env("STORE_URL", cluster.dsn_with("freehold", STORE_PASSWORD, "freehold_control"));
        command.env("TENANTS_DSN", &admin).env("ADMIN_DSN", &admin);
    }
    let mut running = Running::spawn(&mut command, &directory.path().join("output"));
    let status = running.wait(Duration::from_secs(300));
    assert!(status.success(), "{page}: {status}\n{}", running.output());
}
