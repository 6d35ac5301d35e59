use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use freehold_drivers::platform::nomad::{Nomad, NomadOptions};
use freehold_drivers::platform::{
    Image, Limits, Network, Phase, Platform, PlatformErrorKind, Postgres, Program, RegistryCredentials, Restart,
    Service, Storage,
};
use freehold_drivers::secrets::Password;
use serde_json::{Value, json};

use crate::fake::{Fake, NODE};

const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";

fn service() -> Service {
    Service {
        name: "shared-1".into(),
        generation: 1,
        program: Program::Postgres(Postgres {
            major: 17,
            settings: BTreeMap::from([("work_mem".into(), "4MB".into())]),
            hba: "hostssl all all all scram-sha-256\n".into(),
            admin_role: "freehold".into(),
            admin_verifier: VERIFIER.into(),
            certificate_pem: "certificate".into(),
            certificate_key: KEY.to_owned().into(),
            initialise: true,
        }),
        image: Some(Image { reference: "registry.example/freehold/postgres:17".into(), credentials: None }),
        limits: Limits {
            cpus: Some(1.5),
            memory_bytes: Some(2 << 30),
            reserved_cpus: None,
            reserved_memory_bytes: Some(1 << 30),
        },
        storage: Storage::Volume,
        network: Network::Port { host: "db.example".into(), port: 5500 },
        constraints: vec!["${meta.role} = database".into()],
        labels: BTreeMap::from([("team".into(), "data".into())]),
        restart: Restart { attempts: 4, window: Duration::from_secs(300), delay: Duration::from_secs(5) },
        stop_grace: Duration::from_secs(120),
    }
}

#[tokio::test]
async fn a_service_lives_its_whole_life_with_published_requests_alone() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    let mut service = service();
    assert_eq!(nomad.observe("shared-1").await.unwrap().phase, Phase::Absent);
    for _ in 0..2 {
        nomad.ensure(&service).await.unwrap();
    }
    assert_eq!(fake.world().registered.len(), 2, "one that prepares, one that stays");
    assert_eq!(nomad.observe("shared-1").await.unwrap().phase, Phase::Starting);
    fake.world().healthy("shared-1");
    let observed = nomad.observe("shared-1").await.unwrap();
    assert_eq!((observed.phase, observed.generation, observed.reason), (Phase::Running, 1, None));
    assert_eq!((observed.host.as_str(), observed.port, observed.node.as_deref()), ("db.example", 5500, Some("db-1")));
    assert_eq!(nomad.list().await.unwrap(), ["shared-1"]);

    // Another generation of the same is recorded, and restarts nothing.
    service.generation = 2;
    let Program::Postgres(postgres) = &mut service.program;
    postgres.initialise = false;
    nomad.ensure(&service).await.unwrap();
    assert_eq!(fake.world().registered.len(), 2);
    assert_eq!(nomad.observe("shared-1").await.unwrap().generation, 2);

    for _ in 0..2 {
        nomad.stop("shared-1").await.unwrap();
    }
    assert_eq!(nomad.observe("shared-1").await.unwrap().phase, Phase::Stopped);
    assert_eq!(nomad.purge("shared-1").await.unwrap_err().kind, PlatformErrorKind::Conflict);
    nomad.ensure(&service).await.unwrap();
    assert_eq!(nomad.observe("shared-1").await.unwrap().phase, Phase::Starting);

    for _ in 0..2 {
        nomad.remove("shared-1").await.unwrap();
    }
    assert!(nomad.list().await.unwrap().is_empty());
    assert!(!fake.world().variables.contains_key("nomad/jobs/shared-1"), "its secrets went with it");
    service.generation = 1;
    let refused = nomad.ensure(&service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Outdated, "one that was removed is not forgotten");

    for _ in 0..2 {
        nomad.purge("shared-1").await.unwrap();
    }
    let purge = fake.world().registered.last().cloned().unwrap();
    assert_eq!(purge["TaskGroups"][0]["Tasks"][0]["Config"]["args"], json!(["purge"]));
    assert_eq!(purge["Constraints"][0]["RTarget"], NODE);
    assert!(fake.world().variables.is_empty() && fake.world().jobs.is_empty());
    for verb in [nomad.stop("never").await, nomad.remove("never").await, nomad.purge("never").await] {
        verb.unwrap();
    }
    fake.check();
}

#[tokio::test]
async fn the_job_says_everything_and_no_secret() {
    let fake = Fake::start().await;
    fake.nomad().ensure(&service()).await.unwrap();
    let world = fake.world();
    let [prepare, job] = world.registered.as_slice() else { panic!("{:?}", world.registered) };
    assert_eq!((&prepare["Type"], &prepare["ID"]), (&json!("batch"), &json!("shared-1-prepare")));
    let task = &prepare["TaskGroups"][0]["Tasks"][0];
    assert_eq!((&task["User"], &task["Config"]["args"]), (&json!("0:0"), &json!(["prepare"])));
    assert_eq!(task["Env"]["FREEHOLD_INITIALISE"], "yes");
    assert_eq!(prepare["Constraints"], json!([{ "LTarget": "${meta.role}", "Operand": "=", "RTarget": "database" }]));

    let at = |pointer: &str| job.pointer(pointer).unwrap_or(&Value::Null).clone();
    let expected = json!({
        "/Type": "service", "/Namespace": "databases", "/Region": "north", "/Datacenters": ["*"],
        "/Meta/freehold_service": "shared-1", "/Meta/freehold_generation": "1", "/Meta/freehold_node": NODE,
        "/Meta/team": "data", "/Constraints/1/LTarget": "${node.unique.id}", "/Constraints/1/RTarget": NODE,
        "/TaskGroups/0/Count": 1,
        "/TaskGroups/0/Networks/0/ReservedPorts/0": { "Label": "postgres", "Value": 5500, "To": 5432 },
        "/TaskGroups/0/Services/0/Provider": "nomad", "/TaskGroups/0/Services/0/Checks/0/Type": "tcp",
        "/TaskGroups/0/RestartPolicy": { "Attempts": 4, "Interval": 300_000_000_000_u64, "Delay": 5_000_000_000_u64, "Mode": "fail" },
        "/TaskGroups/0/ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
        "/TaskGroups/0/Update/AutoRevert": false, "/TaskGroups/0/Update/MaxParallel": 1,
        "/TaskGroups/0/Tasks/0/Driver": "docker", "/TaskGroups/0/Tasks/0/KillSignal": "SIGINT",
        "/TaskGroups/0/Tasks/0/KillTimeout": 120_000_000_000_u64,
        "/TaskGroups/0/Tasks/0/Resources": { "CPU": 3000, "MemoryMB": 1024 },
        "/TaskGroups/0/Tasks/0/Config/memory_hard_limit": 2048, "/TaskGroups/0/Tasks/0/Config/cpu_hard_limit": true,
        "/TaskGroups/0/Tasks/0/Config/shm_size": 536_870_912,
        "/TaskGroups/0/Tasks/0/Config/mount":
            [{ "type": "volume", "source": "shared-1", "target": "/var/lib/postgresql", "readonly": false }],
        "/TaskGroups/0/Tasks/0/Env/FREEHOLD_FILES": "/secrets/freehold",
    });
    for (pointer, value) in expected.as_object().unwrap() {
        assert_eq!(at(pointer), *value, "{pointer}");
    }
    let files = &world.variables["nomad/jobs/shared-1"]["Items"];
    assert_eq!((&files["key"], &files["verifier"]), (&json!(KEY), &json!(VERIFIER)));
    let templates = at("/TaskGroups/0/Tasks/0/Templates");
    for template in templates.as_array().unwrap() {
        let text = template["EmbeddedTmpl"].as_str().unwrap();
        let item = text.split("{{ .").nth(1).unwrap().split(' ').next().unwrap().trim_end_matches("}}");
        assert!(!files[item.trim()].is_null(), "{text} reads what was written");
        assert!(
            text.contains("nomadVar \"nomad/jobs/shared-1\""),
            "a path that the task's own identity may read: {text}"
        );
        assert_eq!((&template["Perms"], &template["Uid"]), (&json!("0400"), &json!(999)));
    }
    for job in &world.registered {
        let text = job.to_string();
        assert!(!text.contains(VERIFIER) && !text.contains("PRIVATE KEY"), "{text}");
    }
    drop(world);
    fake.check();
}

#[tokio::test]
async fn a_change_in_between_is_looked_at_again_and_an_older_one_refused() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    let mut service = service();
    service.generation = 5;
    nomad.ensure(&service).await.unwrap();
    service.generation = 6;
    service.limits.memory_bytes = Some(4 << 30);
    fake.world().meddled = 2;
    nomad.ensure(&service).await.unwrap();
    assert_eq!(fake.world().job("shared-1")["TaskGroups"][0]["Tasks"][0]["Config"]["memory_hard_limit"], 4096);
    fake.world().meddled = 100;
    service.generation = 7;
    service.limits.memory_bytes = Some(3 << 30);
    let busy = nomad.ensure(&service).await.unwrap_err();
    assert!(busy.is_transient() && busy.message.contains("another Freehold"), "{busy}");
    fake.world().meddled = 0;
    service.generation = 4;
    assert_eq!(nomad.ensure(&service).await.unwrap_err().kind, PlatformErrorKind::Outdated);
    fake.check();
}

#[tokio::test]
async fn what_cannot_be_placed_or_started_is_named() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    let ways = [
        (
            Some(("ConstraintFiltered", "${meta.role} = database")),
            None,
            0,
            PlatformErrorKind::NoNode,
            "${meta.role} = database on 3",
        ),
        (Some(("DimensionExhausted", "memory")), None, 0, PlatformErrorKind::NoNode, "memory on 3"),
        (
            Some(("DimensionExhausted", "network: reserved port collision postgres=5500")),
            None,
            0,
            PlatformErrorKind::PortTaken,
            "5500",
        ),
        (
            None,
            Some("Failed to pull `registry.example/freehold/postgres:17`: not found"),
            0,
            PlatformErrorKind::ImageMissing,
            "postgres:17",
        ),
        (None, Some("bind source path does not exist: /srv/pg"), 0, PlatformErrorKind::Storage, "/srv/pg"),
        (None, None, 66, PlatformErrorKind::Storage, "freehold-postgres: the data is not here"),
        (None, None, 64, PlatformErrorKind::Unsupported, "ended with code 64"),
    ];
    for (blocked, driver_error, exit_code, kind, words) in ways {
        {
            let mut world = fake.world();
            (world.blocked, world.driver_error, world.exit_code) = (blocked, driver_error, exit_code);
            world.log = "starting\nfreehold-postgres: the data is not here\n".into();
        }
        let error = nomad.ensure(&service()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert_eq!(nomad.observe("shared-1").await.unwrap().phase, Phase::Absent);
        assert!(fake.world().jobs.is_empty(), "nothing is left to run later");
    }
    {
        let mut world = fake.world();
        (world.blocked, world.driver_error, world.exit_code) = (None, None, 0);
    }
    nomad.ensure(&service()).await.unwrap();
    fake.check();
}

#[tokio::test]
async fn a_server_that_ended_says_why_and_is_started_again_when_asked() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    nomad.ensure(&service()).await.unwrap();
    fake.world().log = "LOG:  starting\nFATAL:  could not access file \"no_such_library\"\n".into();
    let ends = [
        (json!({ "Type": "Terminated", "ExitCode": 1 }), "platform_failed: ended with code 1: FATAL:"),
        (json!({ "Type": "Terminated", "ExitCode": 137, "Details": { "oom_killed": "true" } }), "want of memory"),
        (json!({ "Type": "Terminated", "ExitCode": 66 }), "storage_missing: "),
        (json!({ "Type": "Driver Failure", "DriverError": "port is already allocated" }), "port_taken: "),
    ];
    for (event, words) in ends {
        fake.world().ended("shared-1", event);
        let observed = nomad.observe("shared-1").await.unwrap();
        assert_eq!(observed.phase, Phase::Failing);
        assert!(observed.reason.clone().unwrap().contains(words), "{observed:?}");
    }
    assert!(nomad.last_words("shared-1").await.unwrap().contains("no_such_library"));
    let before = fake.world().registered.len();
    nomad.ensure(&service()).await.unwrap();
    assert_eq!(fake.world().registered.len(), before + 1, "its attempts are given back");
    assert_eq!(nomad.observe("shared-1").await.unwrap().phase, Phase::Starting);
    fake.check();
}

#[tokio::test]
async fn refusals_name_what_to_do() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    let mut bad = service();
    bad.constraints = vec!["node.labels.role==database".into()];
    let error = nomad.ensure(&bad).await.unwrap_err();
    assert!(
        error.kind == PlatformErrorKind::Unsupported && error.message.contains("${meta.role} = database"),
        "{error}"
    );
    let mut bad = service();
    let credentials = RegistryCredentials { username: "u".into(), password: "very-secret".to_owned().into() };
    bad.image.as_mut().unwrap().credentials = Some(credentials);
    let error = nomad.ensure(&bad).await.unwrap_err();
    assert!(error.kind == PlatformErrorKind::Unsupported && error.message.contains("plugin docker"), "{error}");
    assert!(!format!("{error:?}").contains("very-secret"));

    nomad.ensure(&service()).await.unwrap();
    let mut moved = service();
    moved.generation = 2;
    moved.storage = Storage::Directory { path: PathBuf::from("/srv/pg"), mode: 0o700 };
    assert_eq!(nomad.ensure(&moved).await.unwrap_err().kind, PlatformErrorKind::Storage);
    fake.world().job("shared-1")["Meta"]["freehold_instance"] = json!("another");
    let before = fake.world().jobs.clone();
    for error in [nomad.ensure(&service()).await.err(), nomad.stop("shared-1").await.err()] {
        assert_eq!(error.map(|error| error.kind), Some(PlatformErrorKind::Conflict));
    }
    // Nothing of ours is there any more: what undoes ends, and what is another's stays.
    nomad.remove("shared-1").await.unwrap();
    nomad.purge("shared-1").await.unwrap();
    assert_eq!(fake.world().jobs, before);
    let token = Some(Password::new(crate::fake::TOKEN));
    Nomad::new(NomadOptions { token, token_file: None, ..fake.options() }).list().await.unwrap();
    let error = Nomad::new(NomadOptions { token_file: None, ..fake.options() }).list().await.unwrap_err();
    assert!(error.kind == PlatformErrorKind::Denied && error.message.contains("token_file"), "{error}");
    let error =
        Nomad::new(NomadOptions { url: "http://127.0.0.1:9".into(), ..fake.options() }).list().await.unwrap_err();
    assert!(error.is_transient() && error.message.contains("127.0.0.1:9"), "{error}");
    fake.check();
}

#[tokio::test]
async fn a_directory_and_a_network_are_asked_for_as_such() {
    let fake = Fake::start().await;
    let mut service = service();
    service.storage = Storage::Directory { path: PathBuf::from("/srv/pg"), mode: 0o750 };
    service.network = Network::Overlay { network: "apps".into() };
    let nomad = fake.nomad();
    nomad.ensure(&service).await.unwrap();
    {
        let world = fake.world();
        let config = |at: usize| world.registered[at]["TaskGroups"][0]["Tasks"][0]["Config"].clone();
        assert_eq!(config(0)["mount"][0]["source"], "/srv/pg");
        assert_eq!(world.registered[0]["TaskGroups"][0]["Tasks"][0]["Env"]["FREEHOLD_MODE"], "0750");
        assert_eq!(config(1)["mount"][0]["source"], "/srv/pg/shared-1");
        assert_eq!((&config(1)["network_mode"], &config(1)["network_aliases"]), (&json!("apps"), &json!(["shared-1"])));
        assert!(world.registered[1]["TaskGroups"][0]["Networks"].is_null());
    }
    let observed = nomad.observe("shared-1").await.unwrap();
    assert_eq!((observed.host.as_str(), observed.port), ("shared-1", 5432));
    fake.check();
}

#[tokio::test]
async fn what_a_prepare_made_before_it_failed_is_purged_where_it_ran() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    let mut service = service();
    service.storage = Storage::Directory { path: PathBuf::from("/srv/pg"), mode: 0o700 };
    fake.world().exit_code = 73;
    assert_eq!(nomad.ensure(&service).await.unwrap_err().kind, PlatformErrorKind::Storage);
    fake.world().exit_code = 0;
    nomad.remove("shared-1").await.unwrap();
    nomad.purge("shared-1").await.unwrap();
    {
        let world = fake.world();
        let purge = world.registered.last().unwrap();
        assert_eq!((&purge["ID"], &purge["Constraints"][0]["RTarget"]), (&json!("shared-1-purge"), &json!(NODE)));
        let task = &purge["TaskGroups"][0]["Tasks"][0];
        assert_eq!(task["Config"]["mount"][0]["source"], "/srv/pg");
        assert_eq!(
            (&task["Env"]["FREEHOLD_SERVICE"], &task["Env"]["FREEHOLD_INSTANCE"]),
            (&json!("shared-1"), &json!("freehold"))
        );
        assert!(world.variables.is_empty() && world.jobs.is_empty());
    }
    // One that makes nothing leaves nothing, and no node is kept for what has its data elsewhere.
    let Program::Postgres(postgres) = &mut service.program;
    postgres.initialise = false;
    fake.world().exit_code = 66;
    assert_eq!(nomad.ensure(&service).await.unwrap_err().kind, PlatformErrorKind::Storage);
    assert!(fake.world().variables.is_empty());
    fake.check();
}

#[tokio::test]
async fn jobs_that_only_have_the_names_of_helpers_are_left_alone() {
    let fake = Fake::start().await;
    let nomad = fake.nomad();
    let foreign = |id: &str| json!({ "ID": id, "Type": "batch", "Meta": { "team": "data" }, "JobModifyIndex": 3 });
    fake.world().jobs.insert("shared-1-prepare".into(), foreign("shared-1-prepare"));
    let refused = nomad.ensure(&service()).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
    assert!(refused.message.contains("shared-1-prepare"), "{refused}");
    nomad.remove("shared-1").await.unwrap();
    assert_eq!(fake.world().job("shared-1-prepare")["Meta"]["team"], "data");

    fake.world().jobs.clear();
    nomad.ensure(&service()).await.unwrap();
    nomad.remove("shared-1").await.unwrap();
    fake.world().jobs.insert("shared-1-purge".into(), foreign("shared-1-purge"));
    assert_eq!(nomad.purge("shared-1").await.unwrap_err().kind, PlatformErrorKind::Conflict);
    assert_eq!(fake.world().job("shared-1-purge")["Meta"]["team"], "data");
    // Storage that turns out to be somebody else's is not purged, and what knew of it goes.
    fake.world().jobs.clear();
    fake.world().exit_code = 77;
    nomad.purge("shared-1").await.unwrap();
    assert!(fake.world().variables.is_empty() && fake.world().jobs.is_empty());
    fake.check();
}
