use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use freehold_drivers::platform::docker::{DockerMode, DockerOptions};
use freehold_drivers::platform::{Image, Network, Phase, Platform, PlatformErrorKind, docker};

use super::world::Docker;
use crate::case::{Case, World};

pub async fn a_port_of_another_program_is_named(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "squeezed");
    // On every address: a Swarm's nodes publish on all of theirs.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let free = case.service.network.clone();
    case.service.network = Network::Port { host: "127.0.0.1".into(), port: taken.local_addr().unwrap().port() };
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::PortTaken, "{refused}");
    case.service.network = free;
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
}

pub async fn an_absent_image_is_named(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "imageless");
    // Nobody listens there: no registry is asked anywhere.
    let reference = "127.0.0.1:9/freehold/nothing:1";
    case.service.image = Some(Image { reference: reference.into(), credentials: None });
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::ImageMissing, "{refused}");
    assert!(refused.message.contains(reference) && refused.message.contains("deploy/images/postgres"), "{refused}");
    assert_eq!(platform.observe("imageless").await.unwrap().phase, Phase::Absent);
    case.service.image = world.image();
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
}

pub async fn an_image_of_another_version_is_refused(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "mixed");
    case.postgres().major = 17;
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Unsupported, "{refused}");
    assert!(refused.message.contains("this image has PostgreSQL 15"), "{refused}");
}

pub async fn what_is_not_freeholds_is_left_alone(world: &Docker) {
    let platform = world.platform().await;
    let case = Case::new(world, "strange");
    let image = world.image().unwrap().reference;
    let cleaned = format!("freehold.instance={}", world.options().instance);
    // The label is there for the tests' broom; the service's own is not.
    let (make, look, remove): (Vec<&str>, [&str; 4], [&str; 3]) = match world.mode {
        DockerMode::Engine => (
            vec!["create", "--name", "strange", "--label", &cleaned, &image],
            ["inspect", "--format", "{{.Id}}", "strange"],
            ["rm", "--force", "strange"],
        ),
        DockerMode::Swarm => (
            vec![
                "service",
                "create",
                "--quiet",
                "--detach",
                "--replicas=0",
                "--name",
                "strange",
                "--label",
                &cleaned,
                &image,
            ],
            ["service", "inspect", "--format={{.ID}}", "strange"],
            ["service", "rm", "strange"],
        ),
    };
    world.docker(&make);
    let before = world.docker(&look);
    for verb in ["ensure", "stop", "observe"] {
        let error = match verb {
            "ensure" => platform.ensure(&case.service).await.err(),
            "stop" => platform.stop("strange").await.err(),
            _ => platform.observe("strange").await.err(),
        };
        assert_eq!(error.map(|error| error.kind), Some(PlatformErrorKind::Conflict), "{verb}");
    }
    // Nothing of ours is there: what undoes ends.
    platform.remove("strange").await.unwrap();
    platform.purge("strange").await.unwrap();
    assert_eq!(world.docker(&look), before, "it is there as it was");
    assert!(platform.list().await.unwrap().is_empty());
    world.docker(&remove);

    // A volume with somebody's files in it.
    world.docker(&["volume", "create", "--label", &cleaned, "strange"]);
    world.docker(&[
        "run",
        "--rm",
        "--volume",
        "strange:/var/lib/postgresql",
        &image,
        "touch",
        "/var/lib/postgresql/mine",
    ]);
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
    platform.remove("strange").await.unwrap();
    platform.purge("strange").await.unwrap();
    assert_eq!(platform.observe("strange").await.unwrap().generation, 0, "no record is left");
    let listed = world.docker(&["run", "--rm", "--volume", "strange:/x", &image, "ls", "-A", "/x"]);
    assert_eq!(listed.trim(), "mine");
}

pub async fn a_helpers_name_that_is_somebody_elses_is_left_alone(world: &Docker) {
    let platform = world.platform().await;
    let case = Case::new(world, "helped");
    let image = world.image().unwrap().reference;
    let cleaned = format!("freehold.instance={}", world.options().instance);
    let (make, look): (Vec<&str>, [&str; 4]) = match world.mode {
        DockerMode::Engine => (
            vec!["create", "--name", "helped.prepare", "--label", &cleaned, &image],
            ["inspect", "--format", "{{.Id}}", "helped.prepare"],
        ),
        DockerMode::Swarm => (
            vec![
                "service",
                "create",
                "--quiet",
                "--detach",
                "--replicas=0",
                "--name=helped-prepare",
                "--label",
                &cleaned,
                &image,
            ],
            ["service", "inspect", "--format={{.ID}}", "helped-prepare"],
        ),
    };
    world.docker(&make);
    let before = world.docker(&look);
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
    platform.remove("helped").await.unwrap();
    platform.purge("helped").await.unwrap();
    assert_eq!(world.docker(&look), before, "it is there as it was");
}

#[tokio::test]
async fn a_socket_that_is_absent_forbidden_or_deaf_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        let options = DockerOptions { host: format!("unix://{}", path.display()), ..DockerOptions::default() };
        (path, docker::Docker::new(options))
    };
    let (path, platform) = at("absent.sock");
    let error = platform.list().await.unwrap_err();
    assert_eq!(error.kind, PlatformErrorKind::Unreachable);
    assert!(error.is_transient() && error.message.contains(&path.display().to_string()), "{error}");

    let (path, platform) = at("deaf.sock");
    drop(tokio::net::UnixListener::bind(&path).unwrap());
    let error = platform.list().await.unwrap_err();
    assert_eq!(error.kind, PlatformErrorKind::Unreachable);
    assert!(error.message.contains("is dockerd running"), "{error}");

    // Root is forbidden nothing: another user asks.
    let (path, _) = at("forbidden.sock");
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if !nix::unistd::Uid::effective().is_root() {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let host = format!("unix://{}", path.display());
    let error = std::thread::spawn(move || as_nobody(host)).join().unwrap();
    assert_eq!(error.kind, PlatformErrorKind::Denied, "{error}");
    assert!(!error.is_transient() && error.message.contains("group"), "{error}");
}

/// On a thread of its own: the file system's user is a thread's.
fn as_nobody(host: String) -> freehold_drivers::platform::PlatformError {
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        docker::Docker::new(DockerOptions { host, ..DockerOptions::default() }).list().await.unwrap_err()
    })
}

#[tokio::test]
async fn an_engine_outside_of_a_swarm_says_so() {
    // An engine that answers as one does: taking the tests' own out of its Swarm would end all that runs there.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let engine = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            if read == 0 {
                continue;
            }
            let asked = String::from_utf8_lossy(&request[..read]).into_owned();
            let (status, body) = match asked.contains("/version") {
                true => ("200 OK", r#"{"ApiVersion":"1.41","Version":"20.10"}"#),
                false => (
                    "503 Service Unavailable",
                    r#"{"message":"This node is not a swarm manager. Use \"docker swarm init\""}"#,
                ),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let options = DockerOptions {
        mode: DockerMode::Swarm,
        host: format!("unix://{}", path.display()),
        ..DockerOptions::default()
    };
    let error = docker::Docker::new(options).list().await.unwrap_err();
    assert_eq!(error.kind, PlatformErrorKind::Unsupported, "{error}");
    assert!(error.message.contains("docker swarm init"), "{error}");
    engine.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_no_node_has_and_a_reservation_that_none_can_give_are_no_node() {
    let world = Docker::swarm(15);
    let platform = world.platform().await;
    let mut case = Case::new(&world, "homeless");
    case.service.constraints = vec!["node.labels.role==freehold-nowhere".into()];
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::NoNode, "{refused}");
    assert!(refused.is_transient() && refused.message.contains("no suitable node"), "{refused}");
    assert_eq!(platform.observe("homeless").await.unwrap().phase, Phase::Absent);

    case.service.constraints.clear();
    case.service.limits.reserved_memory_bytes = Some(1 << 50);
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::NoNode, "{refused}");

    case.service.limits.reserved_memory_bytes = None;
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &*platform).await.close().await;
    // One that has its data somewhere is not moved by a constraint: it is said, and mended.
    case.service.generation += 1;
    case.service.constraints = vec!["node.labels.role==freehold-nowhere".into()];
    platform.ensure(&case.service).await.unwrap();
    let failing = case.until(&*platform, Phase::Failing).await;
    let reason = failing.reason.unwrap();
    assert!(reason.starts_with("no_node: ") && reason.contains("its data is on node"), "{reason}");
    case.service.generation += 1;
    case.service.constraints.clear();
    platform.ensure(&case.service).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    case.until(&*platform, Phase::Running).await;
}
