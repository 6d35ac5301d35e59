use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use freehold_drivers::platform::docker::DockerMode;
use freehold_drivers::platform::{Limits, Network, Phase, PlatformErrorKind, Program};
use secrecy::ExposeSecret;
use tokio::time::sleep;

use super::world::Docker;
use crate::case::{ADMIN, Case, World, ask};

pub async fn limits_are_in_force_and_no_secret_is_in_a_definition(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "limited");
    case.service.limits = Limits {
        cpus: Some(0.5),
        memory_bytes: Some(512 << 20),
        reserved_cpus: Some(0.25),
        reserved_memory_bytes: Some(256 << 20),
    };
    case.service.labels = BTreeMap::from([("team".into(), "data".into())]);
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    let id = world.container("limited").await;
    let format = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.StopSignal}} {{.Config.User}}";
    assert_eq!(world.docker(&["inspect", "--format", format, &id]).trim(), "536870912 500000000 SIGINT postgres");
    // What the kernel holds them to.
    let shm = world.docker(&["exec", &id, "df", "--output=size", "-B1", "/dev/shm"]);
    assert_eq!(shm.lines().last().map(str::trim), Some("134217728"), "a quarter of the memory");
    let capabilities = world.docker(&["exec", &id, "grep", "CapBnd", "/proc/1/status"]);
    assert!(capabilities.trim().ends_with("0000000000000000"), "{capabilities}");
    if world.mode == DockerMode::Swarm {
        let format = "{{.Spec.Labels.team}} {{.Spec.TaskTemplate.Resources.Limits.MemoryBytes}} {{.Spec.TaskTemplate.Resources.Reservations.MemoryBytes}} {{.Spec.TaskTemplate.Resources.Reservations.NanoCPUs}} {{.Spec.TaskTemplate.RestartPolicy.Condition}} {{.Spec.TaskTemplate.RestartPolicy.MaxAttempts}} {{.Spec.UpdateConfig.Order}} {{.Spec.UpdateConfig.FailureAction}} {{len .Spec.TaskTemplate.Placement.Constraints}}";
        let spec = world.docker(&["service", "inspect", "--format", format, "limited"]);
        assert_eq!(spec.trim(), "data 536870912 268435456 250000000 any 2 stop-first pause 1");
    } else {
        let format = "{{.HostConfig.MemoryReservation}} {{.HostConfig.CpuShares}} {{.Config.Labels.team}}";
        assert_eq!(world.docker(&["inspect", "--format", format, &id]).trim(), "268435456 256 data");
    }
    let Program::Postgres(postgres) = &case.service.program;
    let key = postgres.certificate_key.expose_secret();
    let body_of_key = key.lines().nth(1).unwrap();
    for (place, text) in world.visible("limited").await {
        for secret in [case.password.expose(), &postgres.admin_verifier, body_of_key] {
            assert!(!text.contains(secret), "a secret is in {place}");
        }
    }
    admin.close().await;
}

pub async fn another_generation_of_the_same_restarts_nothing(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "calm");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    let before = world.container("calm").await;
    for generation in 2..4 {
        case.service.generation = generation;
        case.postgres().initialise = false;
        platform.ensure(&case.service).await.unwrap();
    }
    sleep(Duration::from_secs(2)).await;
    admin.ping().await.expect("nobody was disturbed");
    assert_eq!(world.container("calm").await, before);
    let observed = platform.observe("calm").await.unwrap();
    assert_eq!((observed.generation, observed.phase), (3, Phase::Running));
    case.service.generation = 2;
    assert_eq!(platform.ensure(&case.service).await.unwrap_err().kind, PlatformErrorKind::Outdated);
    admin.close().await;
}

pub async fn want_of_memory_ends_one_session_and_is_told(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "hungry");
    case.service.limits.memory_bytes = Some(256 << 20);
    case.with_settings(world, &[("shared_buffers", "32MB"), ("work_mem", "2GB"), ("max_connections", "20")]);
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    let id = world.container("hungry").await;
    let eaten = admin.client().query("select array_agg(g) from generate_series(1, 200000000) g", &[]).await;
    assert!(eaten.is_err(), "the kernel ends who takes more");
    // The server recovers in its container, and nothing restarts it meanwhile.
    case.until_open(world, &*platform).await.close().await;
    assert_eq!(world.container("hungry").await, id);

    // The whole server dies of it, again and again: attempts are used up, and the reason is said.
    case.service.limits.memory_bytes = Some(64 << 20);
    case.with_settings(world, &[("shared_buffers", "8GB"), ("max_connections", "20"), ("huge_pages", "off")]);
    platform.ensure(&case.service).await.unwrap();
    let failing = case.until(&*platform, Phase::Failing).await;
    let reason = failing.reason.unwrap_or_default();
    assert!(reason.contains("memory") || reason.contains("killed"), "{reason}");
}

/// A standby that has nothing to follow never accepts connections: recovery without an end.
pub async fn recovering_counts_as_alive(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "slow");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    platform.stop("slow").await.unwrap();
    let image = world.image().unwrap().reference;
    let signal = "/var/lib/postgresql/data/standby.signal";
    world.docker(&["run", "--rm", "--volume", "slow:/var/lib/postgresql", &image, "touch", signal]);
    case.with_settings(world, &[("hot_standby", "off")]);
    platform.ensure(&case.service).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let id = world.container("slow").await;
    // Longer than the retries of its health check take.
    for _ in 0..24 {
        assert_eq!(platform.observe("slow").await.unwrap().phase, Phase::Starting);
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(world.container("slow").await, id, "it was neither killed nor doubled");
    world.docker(&["exec", &id, "rm", signal]);
    case.with_settings(world, &[]);
    platform.ensure(&case.service).await.unwrap();
    case.until(&*platform, Phase::Running).await;
    // Once it has been up, a crash of its own and the recovery after it leave it alive.
    let id = world.container("slow").await;
    let admin = case.until_open(world, &*platform).await;
    let pid = ask(&admin, "select pid::text from pg_stat_activity where backend_type = 'checkpointer'").await;
    world.docker(&["exec", &id, "sh", "-c", &format!("kill -9 {pid}")]);
    case.until_open(world, &*platform).await.close().await;
    assert_eq!(world.container("slow").await, id);
}

pub async fn a_restarted_engine_brings_its_servers_back(world: &Docker) {
    let platform = world.platform().await;
    let (mut up, down) = (Case::new(world, "up"), Case::new(world, "down"));
    for case in [&up, &down] {
        platform.ensure(&case.service).await.unwrap();
    }
    let admin = up.until_open(world, &*platform).await;
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    admin.close().await;
    platform.stop("down").await.unwrap();

    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/docker");
    let restarted = Command::new(script).arg("restart").stdin(Stdio::null()).output().unwrap();
    assert!(restarted.status.success(), "{}", String::from_utf8_lossy(&restarted.stderr));
    // While a manager begins it says so, and it is worth another try.
    for _ in 0..100 {
        match platform.observe("up").await {
            Ok(_) => break,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
    let admin = up.until_open(world, &*platform).await;
    assert_eq!(ask(&admin, "select body from public.kept").await, "here");
    admin.close().await;
    assert_eq!(platform.observe("down").await.unwrap().phase, Phase::Stopped);
    assert_eq!(platform.list().await.unwrap(), ["down", "up"]);
    up.postgres().initialise = false;
    platform.ensure(&up.service).await.unwrap();
    up.until_open(world, &*platform).await.close().await;
}

pub async fn a_network_is_joined_under_the_services_name(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "joined");
    case.service.network = Network::Overlay { network: "freehold-tests".into() };
    if world.mode == DockerMode::Swarm {
        let refused = platform.ensure(&case.service).await.unwrap_err();
        assert_eq!(refused.kind, PlatformErrorKind::Unsupported, "{refused}");
        assert!(refused.message.contains("docker network create"), "{refused}");
    }
    let cleaned = format!("--label=freehold.instance={}", world.options().instance);
    let (driver, attachable) = match world.mode {
        DockerMode::Engine => ("--driver=bridge", "--internal"),
        DockerMode::Swarm => ("--driver=overlay", "--attachable"),
    };
    world.docker(&["network", "create", driver, attachable, &cleaned, "freehold-tests"]);
    platform.ensure(&case.service).await.unwrap();
    case.until(&*platform, Phase::Running).await;
    let observed = platform.observe("joined").await.unwrap();
    assert_eq!((observed.host.as_str(), observed.port), ("joined", 5432));
    // From another container of the network, with the password and TLS as tenants come.
    let password = format!("PGPASSWORD={}", case.password.expose());
    let image = world.image().unwrap().reference;
    let dsn = format!("host=joined user={ADMIN} dbname=postgres sslmode=require connect_timeout=10");
    let said = world.docker(&[
        "run",
        "--rm",
        "--network",
        "freehold-tests",
        "--env",
        &password,
        &image,
        "psql",
        &dsn,
        "-Atc",
        "select 40 + 2",
    ]);
    assert_eq!(said.trim(), "42");
}

/// The same image recipe for every version that Debian has.
async fn has_what_tenants_need(world: &Docker) {
    let platform = world.platform().await;
    let case = Case::new(world, "extended");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    admin.client().batch_execute("create extension vector").await.unwrap();
    assert_eq!(ask(&admin, "select ('[1,2]'::vector <-> '[4,6]')::text").await, "5");
    assert_eq!(ask(&admin, "show server_encoding").await, "UTF8");
    assert_eq!(ask(&admin, "select datcollate from pg_database where datname = 'template1'").await, "C.UTF-8");
    admin.close().await;
    let id = world.container("extended").await;
    assert!(world.docker(&["exec", &id, "pgbackrest", "version"]).starts_with("pgBackRest 2."));
    // The person in the worst hour.
    let said = world.docker(&["exec", &id, "psql", "-U", ADMIN, "-d", "postgres", "-Atc", "select current_user"]);
    assert_eq!(said.trim(), ADMIN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_15_has_what_tenants_need() {
    has_what_tenants_need(&Docker::swarm(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_17_lives() {
    let world = Docker::swarm(17);
    crate::conformance::a_service_lives_its_whole_life_and_every_verb_may_run_twice(&world).await;
    has_what_tenants_need(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_18_lives() {
    let world = Docker::engine(18);
    crate::conformance::a_service_lives_its_whole_life_and_every_verb_may_run_twice(&world).await;
    has_what_tenants_need(&world).await;
}

/// A Freehold that was killed between making the container and putting its files into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_never_had_its_files_is_made_again() {
    let world = Docker::engine(15);
    let platform = world.platform().await;
    let case = Case::new(&world, "bare");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &*platform).await.close().await;
    let client = world.client();
    let found = client.inspect_container("bare", None).await.unwrap();
    world.docker(&["rm", "--force", "bare"]);
    let config = found.config.unwrap();
    let body = ContainerCreateBody {
        image: config.image,
        env: config.env,
        labels: config.labels,
        exposed_ports: config.exposed_ports,
        healthcheck: config.healthcheck,
        host_config: found.host_config,
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::new().name("bare").build();
    client.create_container(Some(options), body).await.unwrap();
    assert_eq!(platform.observe("bare").await.unwrap().phase, Phase::Stopped);
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &*platform).await.close().await;
}
