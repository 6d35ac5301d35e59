use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use freehold_drivers::platform::{Phase, PlatformErrorKind, Storage};

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
