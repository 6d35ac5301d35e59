//! Poolers that Freehold starts itself, in containers of a real Engine (`scripts/docker`).

use std::time::{Duration, Instant};

use freehold_testkit::{Directory, DockerEngine, Plane, Ports, as_tenant};
use serde_json::json;

use crate::bench::BINARY;
use crate::platform::{all_are_healthy, pooled, poolers};
use crate::story::{ask, connection, create, until, until_in};

const INSTANCE: &str = "freehold-poolers";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poolers_run_in_containers_that_the_engine_keeps() {
    let engine = DockerEngine::for_poolers(INSTANCE, BINARY);
    let (directory, ports) = (Directory::new(), Ports::reserve());
    let file = directory.path().join("settings.toml");
    std::fs::write(&file, "").unwrap();
    let mut plane = Plane::dev(BINARY).arg("--settings").arg(file.display().to_string()).stock(0).start().await;
    let settings = |image: &str| {
        format!(
            "[platform.docker]\nhost = \"unix://{}\"\ninstance = \"{INSTANCE}\"\nhealth_interval_seconds = 1\n\
             [pooler]\ncapacity = 2\n[pooler.platform]\nkind = \"docker\"\nimage = \"{image}\"\nnetwork = \"host\"\n\
             plane_url = \"{}\"\nports = \"{}-{}\"\nmaximum_poolers = 2\nheadroom = 1\nmemory = \"128M\"\ncpus = 1\n",
            engine.socket,
            plane.url(),
            ports.first,
            ports.last
        )
    };
    let (good, missing) = (settings(DockerEngine::POOLER_IMAGE), settings("localhost/freehold/pooler:nowhere"));

    // What cannot be started leaves nothing, and says what to do.
    std::fs::write(&file, missing).unwrap();
    plane.restart(&[]).await;
    until("the first try has failed", async || match poolers(&plane).await.first() {
        Some(pooler) if pooler["state"] == "failed" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let failed = poolers(&plane).await.remove(0);
    assert!(failed["message"].as_str().unwrap().contains("deploy/images/pooler/build"), "{failed}");
    assert_eq!(engine.ids(&["ps", "--all"]), Vec::<String>::new());
    assert_eq!(engine.ids(&["volume", "ls"]), Vec::<String>::new());
    assert_eq!(plane.delete("/v1/poolers/pooler-1").await.0, 204);

    std::fs::write(&file, good).unwrap();
    plane.restart(&[]).await;
    all_are_healthy(&plane, &["pooler-2"]).await;
    for name in ["a", "b", "c"] {
        create(&plane, name).await;
        let found = pooled(&plane, name).await;
        let client = as_tenant(&found["pooled"]).await.unwrap();
        assert_eq!(ask(&client, "SELECT 'in'").await.unwrap(), "in");
    }
    all_are_healthy(&plane, &["pooler-2", "pooler-3"]).await;
    let version = poolers(&plane).await[0]["version"].clone();
    assert!(version.as_str().unwrap().starts_with("1.24"), "{version}");

    // No secret where everybody who may look at containers sees it; and nobody there is root.
    let inspected = engine.docker(&["inspect", "pooler-2"]);
    let key = engine.docker(&["exec", "pooler-2", "cat", "/run/freehold/key"]);
    assert!(key.starts_with("fh_") && !inspected.contains(key.trim()));
    assert_eq!(engine.docker(&["exec", "pooler-2", "id", "-u"]).trim(), "999");

    // The container dies: the Engine starts it again, and it is back at its address with what it had, also while the plane is
    // dead.
    let before = connection(&plane, "a").await;
    let id = engine.docker(&["inspect", "--format", "{{.Id}}", "pooler-2"]);
    let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", "pooler-2"]);
    plane.kill_group().await;
    let killed = std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    assert!(killed.success());
    until_in(&before).await;
    plane.start_again().await;
    all_are_healthy(&plane, &["pooler-2", "pooler-3"]).await;
    assert_eq!(engine.docker(&["inspect", "--format", "{{.Id}}", "pooler-2"]), id, "it was not made anew");

    // Somebody removes it: the next plane brings it back, at its address.
    engine.docker(&["rm", "--force", "pooler-2"]);
    let began = Instant::now();
    until_in(&before).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(connection(&plane, "a").await["pooled"]["port"], before["pooled"]["port"]);

    // Emptied and removed, nothing is left of it.
    let last = connection(&plane, "c").await["pooled"]["port"].clone();
    let found = poolers(&plane).await;
    let name = found.iter().find(|pooler| pooler["port"] == last).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(plane.post(&format!("/v1/poolers/{name}/cordon"), json!({})).await.0, 200);
    for tenant in ["a", "b", "c"] {
        if connection(&plane, tenant).await["pooled"]["port"] == last {
            assert_eq!(plane.delete(&format!("/v1/tenants/{tenant}?confirm={tenant}&purge=true")).await.0, 200);
        }
    }
    let removed = plane.cli(&["pooler", "remove", &name]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let names = engine.docker(&["ps", "--all", "--format", "{{.Names}}"]);
    assert!(!names.lines().any(|line| line == name), "{names}");
    let volumes = engine.docker(&["volume", "ls", "--format", "{{.Name}}"]);
    assert!(!volumes.lines().any(|line| line == name), "{volumes}");
}
