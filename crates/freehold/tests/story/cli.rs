//! Issue 2, item 11: the command line, against a real plane.

use std::process::Command;

use serde_json::Value as Json;

use freehold_testkit::Directory;

use crate::common::{BINARY, create, dev, exits, stderr, stdout, until_stock};

#[tokio::test]
async fn story_the_command_line_tells_programs_and_people() {
    let plane = dev().stock(2).start().await;
    until_stock(&plane, "default", 2).await;
    let cli = |args: &[&str]| plane.cli(args);
    let said = stdout(&exits(cli(&["tenant", "create", "acme", "--name", "Acme 🦆", "--label", "tier=gold"]), 0));
    assert!(said.contains("postgres://") && said.contains("Acme 🦆") && said.contains("tier=gold"), "{said}");
    let again = stdout(&exits(cli(&["tenant", "create", "acme"]), 0));
    assert!(again.contains("postgres://"));
    let shown: Json = serde_json::from_str(&stdout(&exits(cli(&["--json", "tenant", "show", "acme"]), 0))).unwrap();
    assert_eq!((&shown["id"], &shown["state"]), (&"acme".into(), &"active".into()));
    let list: Json = serde_json::from_str(&stdout(&exits(cli(&["tenant", "list", "--json"]), 0))).unwrap();
    assert_eq!(list["items"][0]["id"], "acme");
    exits(cli(&["tenant", "update", "acme", "--name", "Other"]), 0);
    exits(cli(&["tenant", "suspend", "acme", "--reason", "unpaid"]), 0);
    assert!(stdout(&exits(cli(&["tenant", "show", "acme"]), 0)).contains("suspended (unpaid)"));
    exits(cli(&["tenant", "resume", "acme"]), 0);

    // Exit codes.
    exits(cli(&["tenant", "show", "nobody"]), 4);
    exits(cli(&["tenant", "create", "acme", "--plan", "standard", "--region", "eu"]), 5);
    exits(cli(&["tenant", "create", "Bad Id"]), 2);
    exits(cli(&["tenant", "delete", "acme"]), 2);
    exits(cli(&["no-such-noun"]), 2);
    let problem: Json = serde_json::from_str(&stderr(&exits(cli(&["--json", "tenant", "show", "nobody"]), 4))).unwrap();
    assert_eq!(problem["code"], "not_found");
    let with = |name: &str, value: &str, args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env("FREEHOLD_URL", plane.url()).env("FREEHOLD_API_KEY", plane.api_key()).env(name, value);
        command.args(args).output().unwrap()
    };
    exits(with("FREEHOLD_API_KEY", "fh_wrong", &["tenant", "list"]), 6);
    let read: Json =
        serde_json::from_str(&stdout(&exits(cli(&["--json", "key", "create", "r", "--scope", "read"]), 0))).unwrap();
    exits(with("FREEHOLD_API_KEY", read["key"].as_str().unwrap(), &["tenant", "create", "x"]), 6);
    exits(with("FREEHOLD_URL", "http://127.0.0.1:1", &["--retry-for", "0", "tenant", "list"]), 7);
    exits(cli(&["freeze", "operations"]), 0);
    // Taken from stock, it needs no operation; with another template, it does.
    exits(cli(&["tenant", "create", "later", "--template", "railzway", "--wait", "1"]), 8);
    exits(cli(&["status"]), 11);
    exits(cli(&["thaw", "operations"]), 0);
    exits(cli(&["tenant", "create", "later", "--template", "railzway"]), 0);

    exits(cli(&["tenant", "delete", "acme", "--confirm", "acme"]), 0);
    exits(cli(&["tenant", "create", "acme"]), 5);
    exits(cli(&["tenant", "undelete", "acme"]), 0);
    exits(cli(&["tenant", "delete", "acme", "--confirm", "acme", "--purge"]), 0);
    exits(cli(&["tenant", "show", "acme"]), 4);
    for args in [
        &["plan", "list"][..],
        &["plan", "show", "standard"],
        &["server", "list"],
        &["server", "show", "local-1"],
        &["template", "list"],
        &["operation", "list"],
        &["audit", "list", "--limit", "5"],
        &["audit", "verify"],
        &["audit", "export"],
        &["audit", "key"],
        &["audit", "hold", "list"],
        &["key", "list"],
        &["freeze"],
        &["tenant", "list"],
    ] {
        let output = exits(cli(args), 0);
        assert!(!stdout(&output).is_empty() || !stderr(&output).is_empty(), "{args:?} says nothing");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&exits(cli(&["completions", shell]), 0));
        assert!(script.contains("tenant") && script.contains("undelete"), "{shell}");
    }
    let pages = Directory::new();
    let pages = pages.path().join("man1");
    exits(cli(&["man", pages.to_str().unwrap()]), 0);
    for page in ["freehold.1", "freehold-tenant-create.1", "freehold-dev.1"] {
        assert!(std::fs::read_to_string(pages.join(page)).unwrap().contains(".TH"), "{page}");
    }
    assert!(stdout(&exits(cli(&["--version"]), 0)).contains(env!("CARGO_PKG_VERSION")));
    for noun in [
        "tenant",
        "server",
        "plan",
        "template",
        "operation",
        "key",
        "audit",
        "status",
        "freeze",
        "dev",
        "serve",
        "worker",
        "store",
        "check",
        "settings",
    ] {
        exits(cli(&[noun, "--help"]), 0);
    }
    let healthy = cli(&["status"]);
    assert!(stdout(&healthy).contains("all is well"), "{}{}", stdout(&healthy), stderr(&healthy));
    exits(healthy, 0);
}

#[tokio::test]
async fn story_every_format_of_a_url_opens_psql() {
    let plane = dev().stock(1).start().await;
    let made = create(&plane, "acme").await;
    let user = made["connection"]["direct"]["user"].as_str().unwrap();
    let format =
        |format: &str| stdout(&exits(plane.cli(&["tenant", "url", "acme", "--format", format]), 0)).trim().to_owned();
    let psql = |arguments: &[&str], env: &[(&str, String)]| {
        let mut command = Command::new("psql");
        for name in ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"] {
            command.env_remove(name);
        }
        command.args(["-XAtqw", "-c", "SELECT session_user"]).args(arguments);
        command.envs(env.iter().map(|(name, value)| (name, value))).env("PGPASSFILE", "/nonexistent");
        for (name, value) in env {
            command.env(name, value);
        }
        stdout(&exits(command.output().unwrap(), 0)).trim().to_owned()
    };
    assert_eq!(psql(&[&format("url")], &[]), user);
    assert_eq!(psql(&[&format("libpq")], &[]), user);
    let script = format!("set -a\n{}\npsql -XAtqw -c 'SELECT session_user'", format("env"));
    let shell = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(stdout(&exits(shell, 0)).trim(), user);
    let pgpass = plane.directory().join("pgpass");
    std::fs::write(&pgpass, format("pgpass") + "\n").unwrap();
    std::fs::set_permissions(&pgpass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let direct = &made["connection"]["direct"];
    let without_password = format!(
        "host={} port={} dbname={} user={user} sslmode=disable",
        direct["host"].as_str().unwrap(),
        direct["port"],
        direct["database"].as_str().unwrap()
    );
    assert_eq!(psql(&[&without_password], &[("PGPASSFILE", pgpass.display().to_string())]), user);
    // JDBC's form is the URL's with its user in the query; libpq reads that as well.
    let jdbc = format("jdbc");
    assert_eq!(psql(&[jdbc.strip_prefix("jdbc:").unwrap()], &[]), user);

    let opened = exits(plane.cli(&["tenant", "psql", "acme", "--", "-XAtq", "-c", "SELECT session_user"]), 0);
    assert_eq!(stdout(&opened).trim(), user);
    let failed =
        plane.cli(&["tenant", "psql", "acme", "--", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", "SELECT nonsense"]);
    assert_eq!(failed.status.code(), Some(1), "psql's own exit code comes through");
    let all = plane.cli(&["tenant", "psql", "nobody", "--", "-c", "SELECT 1"]);
    exits(all, 4);
}
