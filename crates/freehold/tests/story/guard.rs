//! What is not fit for production does not start, and says all of it at once.

use std::process::{Command, Output};

use freehold_testkit::{Cluster, Directory, Port, Running, http_client};

use crate::common::{BINARY, exits, stderr, stdout, until};

const PASSWORD: &str = "Vq7xkD2mPz9wLb4t";

struct World {
    store: Cluster,
    directory: Directory,
    port: Port,
}

impl World {
    async fn new() -> Self {
        let store = Cluster::start(15);
        let admin = store.connect("postgres").await;
        admin.batch_execute(&format!("CREATE ROLE freehold LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
        admin.batch_execute("CREATE DATABASE control OWNER freehold").await.unwrap();
        Self { store, directory: Directory::new(), port: Port::reserve() }
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).args(["--settings", "settings.toml"]).current_dir(self.directory.path());
        for name in ["FREEHOLD_FAULTS", "PGPASSWORD", "PGSSLMODE", "FREEHOLD_SETTINGS"] {
            command.env_remove(name);
        }
        command
    }

    fn cli(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        self.command(args).envs(env.iter().copied()).output().unwrap()
    }
}

fn rules(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("  - ")?.split(':').next()).collect()
}

#[tokio::test]
async fn story_a_start_with_five_faults_lists_five() {
    let world = World::new().await;
    // 32 bytes that somebody typed, and a superuser who is let in with a default.
    let key = world.write("sealing.key", "Zm9yIGlzb2xhdGlvbiB0ZXN0cyBhbmQgbm90aGluZyE=\n", 0o600);
    let admin = world.store.connect("postgres").await;
    admin.batch_execute("CREATE ROLE root LOGIN SUPERUSER PASSWORD 'changeme'").await.unwrap();
    let url = world.write("store.url", &format!("{}\n", world.store.dsn_with("root", "changeme", "control")), 0o600);
    let bad = format!(
        "environment = \"production\"\nlisten = \"0.0.0.0:{}\"\n[store]\nurl_file = \"{url}\"\n[secrets]\nkey_file = \"{key}\"\n\
         [audit]\ncheckpoint_url = \"http://collector.internal/hunter22\"\n",
        world.port.number
    );
    world.write("settings.toml", &bad, 0o600);
    for verb in ["serve", "worker"] {
        let ended = exits(world.cli(&[verb], &[]), 3);
        let said = stderr(&ended);
        let all = ["secret_guessable", "secret_guessable", "store_superuser", "api_without_tls", "audit_without_tls"];
        assert_eq!(rules(&said), all, "{said}");
        assert!(!said.contains("changeme") && !said.contains("hunter22"), "{said}");
    }
    // The same, without a start; and a sixth.
    let ended = exits(world.cli(&["check", "production"], &[("FREEHOLD_FAULTS", "nothing/*/before=fail")]), 3);
    assert_eq!(stdout(&ended).matches("refused  ").count(), 6, "{}", stdout(&ended));
    assert!(stdout(&ended).contains("refused  fault_points"), "{}", stdout(&ended));
    // Elsewhere than in production nobody asks; a secret in the settings' environment is a secret too.
    let shown = exits(world.cli(&["check", "settings"], &[("FREEHOLD__AUDIT__STREAM_SECRET", "hunter22")]), 3);
    assert!(!stderr(&shown).contains("hunter22"), "{}", stderr(&shown));
    let shown = stdout(&exits(world.cli(&["check", "settings"], &[]), 0));
    assert!(shown.contains("•••") && !shown.contains("changeme") && !shown.contains("hunter22"), "{shown}");
}

#[tokio::test]
async fn story_what_is_fit_for_production_starts_and_what_is_accepted_is_said() {
    let world = World::new().await;
    world.write("settings.toml", "environment = \"production\"\n", 0o600);
    // Everything that is missing, at once.
    let said = stderr(&exits(world.cli(&["serve"], &[]), 3));
    assert!(said.contains("store.url is required") && said.contains("secrets.key_file is required"), "{said}");

    freehold_drivers::secrets::Sealer::create_file(&world.directory.path().join("sealing.key")).unwrap();
    let text = |url: String, more: &str| {
        format!(
            "listen = \"127.0.0.1:{}\"\n[store]\nurl = \"{url}\"\nmigrate = true\n[secrets]\nkey_file = \"sealing.key\"\n{more}",
            world.port.number
        )
    };
    world.write("settings.toml", &text(world.store.dsn_with("freehold", PASSWORD, "control"), ""), 0o600);
    let answer = stdout(&exits(world.cli(&["check", "production"], &[]), 0));
    assert!(answer.contains("nothing is against production"), "{answer}");

    let admin = world.store.connect("postgres").await;
    admin.batch_execute(&format!("CREATE ROLE chief LOGIN SUPERUSER PASSWORD '{PASSWORD}'")).await.unwrap();
    // A parameter that is mistyped, and a driver that would tell the log what it does not know.
    let chief = format!("{}&pasword=hunter22", world.store.dsn_with("chief", PASSWORD, "control"));
    world.write("settings.toml", &text(chief.clone(), ""), 0o600);
    let said = stderr(&exits(world.cli(&["serve"], &[]), 3));
    assert!(said.contains("store_superuser: chief, the role of store.url, is a superuser"), "{said}");
    let events = "stream_url = \"http://127.0.0.1:9/hunter22\"\nstream_secret = \"9f3c1b7a5d2e8f604b6c7d8e9f0a1b2c\"";
    let more = format!("[compat]\naccept = [\"store_superuser\"]\n[audit]\n{events}\n");
    world.write("settings.toml", &text(chief, &more), 0o600);
    let mut command = world.command(&["serve"]);
    command.env("FREEHOLD_LOG", "trace");
    let mut serve = Running::spawn(&mut command, &world.directory.path().join("output"));
    let http = http_client();
    until("serve is ready", async || {
        match http.get(format!("http://127.0.0.1:{}/health/ready", world.port.number)).send().await {
            Ok(response) if response.status() == 200 => Ok(()),
            other => Err(format!("{other:?}: {}", serve.output())),
        }
    })
    .await;
    assert!(serve.ended().is_none());
    let output = serve.output();
    assert!(output.contains("accepted in production") && output.contains("nobody reads these parameters"), "{output}");
    let key = std::fs::read_to_string(world.directory.path().join("sealing.key")).unwrap();
    for secret in ["hunter22", PASSWORD, "9f3c1b7a5d2e8f604b6c7d8e9f0a1b2c", key.trim()] {
        let line = output.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "a secret in the log: {line:?}");
    }
}

#[tokio::test]
async fn story_names_of_other_platforms_are_told_at_the_start() {
    let world = World::new().await;
    freehold_drivers::secrets::Sealer::create_file(&world.directory.path().join("sealing.key")).unwrap();
    world.write("settings.toml", "[secrets]\nkey_file = \"sealing.key\"\n[compat]\nvariables = true\n", 0o600);
    let port = world.store.port().to_string();
    let env = [
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", port.as_str()),
        ("DB_NAME", "control"),
        ("DB_USER", "freehold"),
        ("DB_PASSWORD", PASSWORD),
        ("DB_SSL_MODE", "disable"),
        ("ENVIRONMENT", "production"),
        ("JWT_SECRET", "hunter22"),
    ];
    // The store is empty, and nobody said AUTO_MIGRATE: as far as it gets, everything was told.
    let said = stderr(&exits(world.cli(&["serve", "--listen", "127.0.0.1:0"], &env), 3));
    assert!(said.contains("freehold store migrate"), "{said}");
    assert!(said.contains("DB_HOST became store.url") && said.contains("ENVIRONMENT became environment"), "{said}");
    assert!(said.contains("JWT_SECRET is accepted, and read by nobody"), "{said}");
    assert!(!said.contains("hunter22") && !said.contains(PASSWORD), "{said}");
    let shown = stdout(&exits(world.cli(&["check", "settings"], &env), 0));
    assert!(shown.contains("DB_PASSWORD became store.url (the environment)"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&exits(world.cli(&["check", "settings", "--json"], &env), 0))).unwrap();
    let url = json["settings"].as_array().unwrap().iter().find(|row| row["setting"] == "store.url").unwrap();
    assert_eq!((&url["value"], &url["source"]), (&"•••".into(), &"DB_HOST".into()));
}
