use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_drivers::platform::docker::{self, DockerOptions};
use freehold_drivers::platform::{Phase, Platform, PlatformErrorKind, Storage};

use super::world::Docker;
use crate::case::{Case, World};

/// A directory that the engine's root may use, and others may enter.
fn parent() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn in_directory(world: &Docker, name: &str, path: PathBuf, mode: u32) -> Case {
    let mut case = Case::new(world, name);
    case.service.storage = Storage::Directory { path, mode };
    case
}

fn look(path: &Path) -> (u32, u32) {
    let found = std::fs::metadata(path).unwrap();
    (found.mode() & 0o7777, found.uid())
}

pub async fn a_directory_is_made_with_its_mode_and_purged_alone(world: &Docker) {
    let parent = parent();
    let neighbour = parent.path().join("neighbour");
    std::fs::create_dir(&neighbour).unwrap();
    let platform = world.platform().await;
    let mut case = in_directory(world, "housed", parent.path().to_owned(), 0o750);
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    let own = parent.path().join("housed");
    assert_eq!(look(&own), (0o750, 999));
    assert!(own.join("data/PG_VERSION").exists() || !nix::unistd::Uid::effective().is_root());

    // Data does not move because a setting changed.
    let elsewhere = self::parent();
    let mut moved = case.service.clone();
    moved.generation += 1;
    moved.storage = Storage::Directory { path: elsewhere.path().to_owned(), mode: 0o700 };
    let refused = platform.ensure(&moved).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
    moved.storage = Storage::Volume;
    assert_eq!(platform.ensure(&moved).await.unwrap_err().kind, PlatformErrorKind::Storage);
    case.until_open(world, &*platform).await.close().await;

    platform.remove("housed").await.unwrap();
    assert!(own.exists());
    case.postgres().initialise = false;
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    platform.remove("housed").await.unwrap();
    for _ in 0..2 {
        platform.purge("housed").await.unwrap();
    }
    assert!(!own.exists());
    assert!(neighbour.exists());
}

pub async fn a_directory_of_another_freehold_is_neither_taken_nor_purged(world: &Docker) {
    let parent = parent();
    let own = parent.path().join("claimed");
    std::fs::create_dir_all(own.join("data")).unwrap();
    let platform = world.platform().await;
    let case = in_directory(world, "claimed", parent.path().to_owned(), 0o700);
    // Whose it is, and the cluster that was in it: of another version, which is refused as well and would be purged.
    for (file, text) in [(".freehold", "claimed"), (".freehold.instance", "another"), ("data/PG_VERSION", "14")] {
        std::fs::write(own.join(file), text).unwrap();
        let _ = std::os::unix::fs::chown(own.join(file), Some(999), Some(999));
    }
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Conflict, "{refused}");
    assert!(refused.message.contains("of the Freehold another"), "{refused}");
    platform.remove("claimed").await.unwrap();
    platform.purge("claimed").await.unwrap();
    assert!(own.join("data/PG_VERSION").exists());
    assert_eq!(platform.observe("claimed").await.unwrap().generation, 0, "no record is left");
    // Data of an earlier image names the service alone.
    std::fs::remove_file(own.join(".freehold.instance")).unwrap();
    std::fs::remove_dir_all(own.join("data")).unwrap();
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    assert_eq!(std::fs::read_to_string(own.join(".freehold.instance")).unwrap(), world.options().instance);
    platform.remove("claimed").await.unwrap();
    platform.purge("claimed").await.unwrap();
    assert!(!own.exists());
}

pub async fn what_a_prepare_made_before_it_failed_is_purged(world: &Docker) {
    let parent = parent();
    let own = parent.path().join("halfway");
    let platform = world.platform().await;
    let mut case = in_directory(world, "halfway", parent.path().to_owned(), 0o700);
    // initdb refuses it, when directory and marker are made.
    case.postgres().admin_role = "pg_nobody".into();
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
    assert!(own.exists());
    platform.remove("halfway").await.unwrap();
    platform.purge("halfway").await.unwrap();
    assert!(!own.exists());
}

pub async fn a_storage_path_that_is_missing_is_named(world: &Docker) {
    let parent = parent();
    let platform = world.platform().await;
    let path = parent.path().join("not-there");
    let case = in_directory(world, "unhoused", path.clone(), 0o700);
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
    assert!(refused.message.contains(&path.display().to_string()), "{refused}");
    assert_eq!(platform.observe("unhoused").await.unwrap().phase, Phase::Absent);
    std::fs::create_dir(&path).unwrap();
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    platform.remove("unhoused").await.unwrap();
    platform.purge("unhoused").await.unwrap();
}

pub async fn data_that_vanished_is_not_made_anew(world: &Docker) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "robbed");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    platform.stop("robbed").await.unwrap();
    let image = world.image().unwrap().reference;
    let volume = "robbed:/var/lib/postgresql";
    world.docker(&["run", "--rm", "--volume", volume, &image, "rm", "-rf", "/var/lib/postgresql/data"]);
    case.postgres().initialise = false;
    platform.ensure(&case.service).await.unwrap();
    let failing = case.until(&*platform, Phase::Failing).await;
    let reason = failing.reason.unwrap();
    assert!(reason.starts_with("storage_missing: ") && reason.contains("no new server is made"), "{reason}");
    let left = world.docker(&["run", "--rm", "--volume", volume, &image, "ls", "/var/lib/postgresql"]);
    assert_eq!(left.trim(), "", "nothing was made");
    // Neither is it when its definition is gone as well.
    platform.remove("robbed").await.unwrap();
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
}

/// What a node that was cut off for a while may do: begin another while the first still runs.
pub async fn two_containers_never_share_the_data(world: &Docker) {
    let platform = world.platform().await;
    let case = Case::new(world, "single");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    let image = world.image().unwrap().reference;
    // The lock that every container takes before it looks at the data.
    let second = "flock --wait 2 /var/lib/postgresql/.lock echo shared || echo refused";
    let second = ["run", "--rm", "--volume", "single:/var/lib/postgresql", &image, "sh", "-c", second];
    assert_eq!(world.docker(&second).trim(), "refused");
    admin.ping().await.unwrap();
    admin.close().await;
    platform.stop("single").await.unwrap();
    assert_eq!(world.docker(&second).trim(), "shared");
}

/// As a Freehold that was killed leaves it: *prepare* goes on, and nothing but its service knows the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepare_that_nobody_waited_for_is_ended_and_purged_where_it_was() {
    let world = Docker::swarm(15);
    let parent = parent();
    let own = parent.path().join("deserted");
    let case = in_directory(&world, "deserted", parent.path().to_owned(), 0o700);
    let hasty = docker::Docker::new(DockerOptions { prepare_deadline_seconds: 0, ..world.options() });
    let left = hasty.ensure(&case.service).await.unwrap_err();
    assert_eq!(left.kind, PlatformErrorKind::Unreachable, "{left}");
    for _ in 0..200 {
        if own.join(".freehold").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let platform = world.platform().await;
    platform.remove("deserted").await.unwrap();
    assert!(own.exists());
    platform.purge("deserted").await.unwrap();
    assert!(!own.exists());
}
