//! Whose the data in an operator's storage is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use freehold_drivers::platform::{Platform, PlatformErrorKind, Storage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Machine;
use crate::case::{Case, ask};

fn stored(world: &Machine, mount: &Path) -> Case {
    let mut case = Case::new(world, "shared-1");
    case.service.storage = Storage::Directory { path: mount.to_owned(), mode: 0o700 };
    case
}

/// As after a provision that failed.
async fn undo(platform: &dyn Platform) {
    platform.remove("shared-1").await.unwrap();
    platform.purge("shared-1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_another_freehold_made_is_neither_taken_nor_stopped_nor_purged() {
    let (world, other, newer) = (Machine::new(15), Machine::new(15), Machine::new(17));
    let mount = world.directory.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let mut case = stored(&world, &mount);
    let first = world.processes();
    first.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &first).await;
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    let started = ask(&admin, "select pg_postmaster_start_time()::text").await;

    // The same major would have been adopted, another been purged.
    for second in [&other, &newer] {
        let platform = second.processes();
        let refused = platform.ensure(&stored(second, &mount).service).await.unwrap_err();
        assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
        assert!(refused.message.contains(&*world.home("shared-1").to_string_lossy()), "{refused}");
        assert!(!second.home("shared-1").exists());
        undo(&platform).await;
    }
    assert_eq!(ask(&admin, "select pg_postmaster_start_time()::text").await, started);

    // Its own record is lost: what begins anew is refused as a stranger is, and who knows of the data has it again.
    drop(first);
    fs::remove_dir_all(world.home("shared-1")).unwrap();
    let again = world.processes();
    let refused = again.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
    undo(&again).await;
    admin.ping().await.unwrap();
    admin.close().await;
    let pid = fs::read_to_string(mount.join("shared-1/data/postmaster.pid")).unwrap();
    kill(Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()), Signal::SIGINT).unwrap();
    while mount.join("shared-1/data/postmaster.pid").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    case.postgres().initialise = false;
    again.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &again).await;
    assert_eq!(ask(&admin, "select body from public.kept").await, "here");
    admin.close().await;
    undo(&again).await;
    assert!(!mount.join("shared-1").exists(), "its own it removes whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_directory_that_holds_something_is_left_as_it_is() {
    let world = Machine::new(15);
    let platform = world.processes();
    let mount = world.directory.path().join("mount");
    let data = mount.join("shared-1/data");
    fs::create_dir_all(&data).unwrap();
    // A cluster of another major, files of nobody's, and a container's marker.
    for file in ["data/PG_VERSION", "notes", ".freehold"] {
        let file = mount.join("shared-1").join(file);
        fs::write(&file, "14\n").unwrap();
        let refused = platform.ensure(&stored(&world, &mount).service).await.unwrap_err();
        assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
        undo(&platform).await;
        assert!(file.exists() && !world.home("shared-1").exists());
        fs::remove_file(&file).unwrap();
        let _ = fs::remove_dir(&data);
    }
    let case = stored(&world, &mount);
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &platform).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lost_its_marker_is_not_stopped_and_what_has_anothers_is_not_purged() {
    let world = Machine::new(15);
    let mount = world.directory.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let case = stored(&world, &mount);
    let platform = world.processes();
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &platform).await;
    let marker = mount.join("shared-1/.freehold");
    let text = fs::read_to_string(&marker).unwrap();

    fs::remove_file(&marker).unwrap();
    let refused = platform.stop("shared-1").await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
    admin.ping().await.unwrap();
    platform.ensure(&case.service).await.unwrap();
    assert_eq!(fs::read_to_string(&marker).unwrap(), text, "asked for again it is written again");

    fs::write(&marker, text.replace("shared-1", "shared-2").replace("\"nonce\":\"", "\"nonce\":\"x")).unwrap();
    undo(&platform).await;
    admin.ping().await.unwrap();
    admin.close().await;
    assert!(mount.join("shared-1/data/PG_VERSION").exists());
}
