//! Issue 4: whether another pooler is started, whoever asks at once.

use freehold_control::plane::Plane;
use freehold_control::pooler::managed::{grow, store};
use freehold_control::pooler::{assign, check};
use freehold_control::settings::Settings;
use freehold_control::start;
use freehold_drivers::secrets::Sealer;
use futures::future::join_all;

use crate::rows::Store;

struct World {
    store: Store,
    plane: Plane,
    _directory: tempfile::TempDir,
}

impl World {
    /// Nothing runs: what is started stays as it was declared.
    async fn new(platform: &str) -> Self {
        let store = Store::start().await;
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        Sealer::create_file(&key).unwrap();
        let text = format!(
            "[store]\nurl = \"{}\"\n[secrets]\nkey_file = \"{}\"\n[pooler]\ncapacity = 10\n[pooler.platform]\nkind = \"process\"\n\
             data_dir = \"{}\"\n{platform}",
            store.dsn(),
            key.display(),
            directory.path().join("q").display()
        );
        let file = directory.path().join("settings.toml");
        std::fs::write(&file, text).unwrap();
        let settings = Settings::load(Some(&file)).unwrap();
        let plane = start::plane(settings, store.pool.clone()).await.unwrap();
        Self { store, plane, _directory: directory }
    }

    /// Fifty at once. Who was started.
    async fn ask(&self) -> Vec<String> {
        let settings = self.plane.settings.pooler.platform.as_ref().unwrap();
        let ask = || grow::when_needed(&self.plane.core, &self.plane.engine, settings, None);
        let answers = join_all((0..50).map(|_| ask())).await;
        answers.into_iter().filter_map(|answer| Some(answer.unwrap()?.0)).collect()
    }

    /// As if its start had come to its end.
    async fn up(&self, id: &str) {
        let mut tx = self.store.pool.begin().await.unwrap();
        assert!(store::activate(&mut tx, id).await.unwrap());
        tx.commit().await.unwrap();
        self.store.run("DELETE FROM operation").await;
    }
}

#[tokio::test]
async fn fifty_callers_start_one_and_the_next_comes_when_that_is_full() {
    let world = World::new("headroom = 2\nmaximum_poolers = 3\nports = \"6500-6509\"").await;
    assert_eq!(world.ask().await, ["pooler-1"]);
    assert_eq!(world.ask().await, Vec::<String>::new(), "it is on its way");
    world.up("pooler-1").await;
    assert_eq!(world.ask().await, Vec::<String>::new(), "ten fit");

    world.store.server("s").await;
    for n in 0..8 {
        world.store.database("s", &format!("fh_{n}")).await;
    }
    assign::assign(&world.store.pool).await.unwrap();
    assert_eq!(world.ask().await, Vec::<String>::new(), "two fit, which is the headroom");
    world.store.database("s", "fh_8").await;
    assert_eq!(world.ask().await, ["pooler-2"]);
    world.up("pooler-2").await;
    assert_eq!(world.store.one::<i64>("SELECT count(DISTINCT port) FROM pooler").await, 2);

    // What is cordoned takes nobody.
    world.store.run("UPDATE pooler SET state = 'cordoned'").await;
    assert_eq!(world.ask().await, ["pooler-3"]);
    world.up("pooler-3").await;
    for n in 10..30 {
        world.store.database("s", &format!("fh_{n}")).await;
    }
    assign::assign(&world.store.pool).await.unwrap();
    assert_eq!(world.ask().await, Vec::<String>::new(), "there are as many as there may be");
    let full = freehold_control::pooler::store::find(&world.store.pool, "pooler-3").await.unwrap().unwrap();
    let codes = |may_grow| check::findings(&full, may_grow).into_iter().map(|found| found.code).collect::<Vec<_>>();
    assert!(codes(false).contains(&"pooler_full".to_owned()));
    assert!(!codes(true).contains(&"pooler_full".to_owned()), "another comes by itself");
}

#[tokio::test]
async fn a_start_that_failed_rests_and_is_tried_again_by_the_same_name() {
    let world = World::new("maximum_poolers = 1").await;
    assert_eq!(world.ask().await, ["pooler-1"]);
    let mut tx = world.store.pool.begin().await.unwrap();
    store::fail(&mut tx, "pooler-1", "no pgbouncer").await.unwrap();
    tx.commit().await.unwrap();
    world.store.run("DELETE FROM operation").await;
    assert_eq!(world.ask().await, Vec::<String>::new(), "it rests");
    world.store.run("UPDATE pooler_service SET retry_at = now()").await;
    assert_eq!(world.ask().await, ["pooler-1"]);
}

#[tokio::test]
async fn a_registered_pooler_with_room_is_as_good_as_one_of_the_platform() {
    let world = World::new("").await;
    world.store.pooler("by-hand", 100).await;
    assert_eq!(world.ask().await, Vec::<String>::new());
    world.store.run("UPDATE pooler SET state = 'cordoned'").await;
    // A name that somebody has is passed over.
    world.store.pooler("pooler-1", 1).await;
    world.store.run("UPDATE pooler SET state = 'cordoned'").await;
    assert_eq!(world.ask().await, ["pooler-2"]);
}
