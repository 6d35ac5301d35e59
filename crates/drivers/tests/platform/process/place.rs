//! Where data is, and what a machine lacks.

use freehold_drivers::platform::{Image, Network, Platform, PlatformErrorKind, Storage};
use freehold_testkit::processes_under;

use super::Machine;
use crate::case::{Case, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_tls_is_refused_where_tls_is_wanted() {
    let world = Machine::new(16);
    let platform = world.processes();
    let mut case = Case::new(&world, "plain");
    case.postgres().settings.insert("ssl".into(), "on".into());
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Unsupported, "{refused}");
    assert!(refused.to_string().contains("without TLS"), "{refused}");
    assert!(!world.home("plain").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_machine_lacks_is_named_and_leaves_nothing() {
    let world = Machine::new(15);
    let platform = world.processes();
    let good = Case::new(&world, "lacking");
    let storage = |path: &str| Storage::Directory { path: path.into(), mode: 0o700 };
    let file = world.directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let closed = world.directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    type Change = Box<dyn Fn(&mut Case)>;
    let mut cases: Vec<(&str, PlatformErrorKind, Change)> = vec![
        ("apt-get install postgresql-14", PlatformErrorKind::Unsupported, Box::new(|case| case.postgres().major = 14)),
        (
            "not there",
            PlatformErrorKind::Storage,
            Box::new(move |case| case.service.storage = storage("/nowhere/at/all")),
        ),
        (
            "no directory",
            PlatformErrorKind::Storage,
            Box::new(move |case| case.service.storage = Storage::Directory { path: file.clone(), mode: 0o700 }),
        ),
        ("written", PlatformErrorKind::Storage, Box::new(move |case| case.service.storage = storage("/proc/self"))),
        (
            "overlay",
            PlatformErrorKind::Unsupported,
            Box::new(|case| case.service.network = Network::Overlay { network: "n".into() }),
        ),
        (
            "images",
            PlatformErrorKind::Unsupported,
            Box::new(|case| case.service.image = Some(Image { reference: "postgres:15".into(), credentials: None })),
        ),
        (
            "constraint",
            PlatformErrorKind::NoNode,
            Box::new(|case| case.service.constraints = vec!["node.role==db".into()]),
        ),
        (
            "plain password",
            PlatformErrorKind::Unsupported,
            Box::new(|case| case.postgres().admin_verifier = "open".into()),
        ),
    ];
    if nix::unistd::Uid::effective().is_root() {
        let change: Change =
            Box::new(move |case| case.service.storage = Storage::Directory { path: closed.clone(), mode: 0o700 });
        cases.push(("cannot enter", PlatformErrorKind::Storage, change));
    }
    for (says, kind, change) in cases {
        let mut case = Case::new(&world, "lacking");
        change(&mut case);
        let refused = platform.ensure(&case.service).await.unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
        assert!(refused.to_string().contains(says), "{says}: {refused}");
        assert!(platform.list().await.unwrap().is_empty(), "{says}");
    }
    assert_eq!(processes_under(&world.dir()), []);
    platform.ensure(&good.service).await.unwrap();
    good.until_open(&world, &platform).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_elsewhere_keeps_its_data_when_the_mount_is_gone() {
    let world = Machine::new(15);
    let platform = world.processes();
    let mount = world.directory.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    let mut case = Case::new(&world, "mounted");
    case.service.storage = Storage::Directory { path: mount.clone(), mode: 0o750 };
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &platform).await;
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    admin.close().await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(mount.join("mounted")).unwrap().permissions().mode() & 0o777, 0o750);
    platform.stop("mounted").await.unwrap();
    let away = world.directory.path().join("away");
    std::fs::rename(&mount, &away).unwrap();
    std::fs::create_dir(&mount).unwrap();
    // Even somebody who still asks for a new one gets none: there was one.
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
    assert!(std::fs::read_dir(&mount).unwrap().next().is_none(), "nothing was made on the wrong disk");
    std::fs::remove_dir(&mount).unwrap();
    std::fs::rename(&away, &mount).unwrap();
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &platform).await;
    assert_eq!(ask(&admin, "select body from public.kept").await, "here");
    admin.close().await;
    std::fs::write(mount.join("precious"), "somebody else's").unwrap();
    platform.remove("mounted").await.unwrap();
    assert!(mount.join("mounted/data/PG_VERSION").exists());
    platform.purge("mounted").await.unwrap();
    assert!(!mount.join("mounted").exists() && mount.join("precious").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_was_carried_elsewhere_is_served_from_there() {
    let world = Machine::new(15);
    let platform = world.processes();
    let mut case = Case::new(&world, "carried");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &platform).await;
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    admin.close().await;
    let mount = world.directory.path().join("mount");
    std::fs::create_dir_all(&mount).unwrap();
    case.service.generation += 1;
    case.service.storage = Storage::Directory { path: mount.clone(), mode: 0o700 };
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
    case.until_open(&world, &platform).await.close().await;
    platform.stop("carried").await.unwrap();
    std::fs::create_dir(mount.join("carried")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(world.home("carried").join("data"))
        .arg(mount.join("carried"))
        .status();
    assert!(copied.unwrap().success());
    case.service.generation -= 1;
    let back = std::mem::replace(&mut case.service.storage, Storage::Volume);
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &platform).await.close().await;
    // The old one still runs when it is asked to be elsewhere.
    case.service.generation += 1;
    case.service.storage = back;
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &platform).await;
    assert_eq!(ask(&admin, "show data_directory").await, mount.join("carried/data").display().to_string());
    assert_eq!(ask(&admin, "select body from public.kept").await, "here");
    admin.close().await;
    assert_eq!(processes_under(&world.home("carried")), []);
}
