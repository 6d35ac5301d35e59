//! A credential is rotated while its tenant works through the pooler: nobody who has one of the two notices, and the old
//! one is refused there too, also over connections that are warm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_testkit::{Plane, as_tenant};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use crate::story::{ask, connection, create, dev, is_answered, is_served, pooler, until};

/// PgBouncer before 1.21 lends a connection for a session: there, more of them than the pool's five would wait for each
/// other, and with two logins whose turn it is depends on their names.
fn clients(version: &str) -> u64 {
    if version == "1.18" { 2 } else { 8 }
}

/// How often somebody was answered, and what went wrong.
type Worked = (u64, Vec<String>);

/// Asks again and again, connecting anew now and then, with whatever `credential` says just then.
async fn works<F, Fut>(stop: Arc<AtomicBool>, done: Arc<AtomicU64>, credential: F) -> Worked
where
    F: Fn() -> Fut,
    Fut: Future<Output = Json>,
{
    let (mut answered, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let pooled = credential().await;
        let client = match as_tenant(&pooled).await {
            Ok(client) => client,
            Err(error) => {
                failed.push(format!("log in as {}: {error:?}", pooled["user"]));
                continue;
            }
        };
        for _ in 0..20 {
            match ask(&client, "SELECT count(*)::text FROM kept").await {
                Ok(_) => answered += 1,
                Err(error) => failed.push(format!("ask as {}: {error:?}", pooled["user"])),
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    (answered, failed)
}

struct Crowd {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    all: Vec<JoinHandle<Worked>>,
}

impl Crowd {
    fn new() -> Self {
        Self { stop: Arc::default(), done: Arc::default(), all: Vec::new() }
    }

    /// Everybody has connected anew since: twice as often as there are of them, as one may have been about to.
    async fn round(&self) {
        let before = self.done.load(Ordering::Relaxed);
        let wanted = before + 2 * self.all.len() as u64;
        until("everybody has come round", async || match self.done.load(Ordering::Relaxed) {
            done if done >= wanted => Ok(()),
            done => Err(format!("{done} of {wanted}")),
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for one in self.all {
            let (answered, failed) = one.await.unwrap();
            assert!(failed.is_empty() && answered > 0, "{answered} answered, {} failed: {failed:?}", failed.len());
        }
    }
}

pub async fn nobody_who_works_notices_a_rotation(version: &'static str) {
    let plane = Arc::new(dev(version, 2).await);
    let old = create(&plane, "acme").await;
    let setup = as_tenant(&old["pooled"]).await.unwrap();
    setup.batch_execute("CREATE TABLE kept AS SELECT 1 AS n").await.unwrap();
    let other = create(&plane, "other").await;
    let neighbour = as_tenant(&other["pooled"]).await.unwrap();
    neighbour.batch_execute("CREATE TABLE kept AS SELECT 1 AS n").await.unwrap();

    // Those who read their credential each time they connect, those who have what they were given, and a neighbour.
    let (mut readers, mut holders) = (Crowd::new(), Crowd::new());
    for _ in 0..clients(version) {
        let plane = plane.clone();
        let reads = move || {
            let plane = plane.clone();
            async move { connection(&plane, "acme").await["pooled"].clone() }
        };
        readers.all.push(tokio::spawn(works(readers.stop.clone(), readers.done.clone(), reads)));
    }
    for held in [old["pooled"].clone(), other["pooled"].clone()] {
        let holds = move || {
            let held = held.clone();
            async move { held }
        };
        holders.all.push(tokio::spawn(works(holders.stop.clone(), holders.done.clone(), holds)));
    }
    readers.round().await;
    let new = rotate(&plane, json!({"grace_seconds": 3600})).await;
    assert_eq!(new["pooled"]["ready"], true, "{}", new["pooled"]["ready"]);
    assert_ne!(new["pooled"]["user"], old["pooled"]["user"]);
    assert_eq!(
        (&new["pooled"]["port"], &new["pooled"]["database"]),
        (&old["pooled"]["port"], &old["pooled"]["database"])
    );
    readers.round().await;
    holders.round().await;
    // Now only those who read are left; who held the old one was told to go, and the rest goes on.
    holders.end().await;

    let warm = as_tenant(&old["pooled"]).await.unwrap();
    is_served(&warm, "the old one, in its grace").await;
    let (status, _, body) = plane.post("/v1/tenants/acme/credentials/retire", json!({})).await;
    assert_eq!(status, 200, "{body}");
    assert!(!is_answered(&warm).await && !is_answered(&setup).await, "a warm connection of the old one is served");
    assert!(as_tenant(&old["pooled"]).await.is_err(), "the pooler lets the old one in");
    is_served(&neighbour, "the neighbour's connection goes on").await;
    readers.round().await;
    assert_eq!(connection(&plane, "acme").await["pooled"]["ready"], true);
    readers.end().await;
}

pub async fn a_leaked_credential_is_refused_by_the_pooler_at_once(version: &'static str) {
    let plane = dev(version, 2).await;
    let mut leaked = create(&plane, "acme").await;
    let neighbour = as_tenant(&create(&plane, "other").await["pooled"]).await.unwrap();
    for round in 0..3 {
        let warm = as_tenant(&leaked["pooled"]).await.unwrap();
        is_served(&warm, "before").await;
        let began = Instant::now();
        let new = rotate(&plane, json!({"immediate": true})).await;
        assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
        assert!(as_tenant(&leaked["pooled"]).await.is_err() && as_tenant(&leaked["direct"]).await.is_err());
        assert!(!is_answered(&warm).await, "round {round}: the warm connection is served");
        assert_eq!(new["pooled"]["ready"], true);
        let client = as_tenant(&new["pooled"]).await.unwrap();
        is_served(&client, &format!("round {round}: the new one")).await;
        leaked = new;
    }
    is_served(&neighbour, "the neighbour").await;
}

/// The same names come back, with other passwords: what PgBouncer remembers of a name must not shut anybody out.
pub async fn names_that_alternate_and_passwords_that_are_replaced(version: &'static str) {
    let plane = dev(version, 0).await;
    for (name, rotates) in [("turns", "second"), ("stays", "replace")] {
        let manifest = format!(
            "[naming]\nkind = \"pattern\"\ndatabase = \"{name}_{{tenant}}\"\nlogin = \"{name}_{{tenant}}_app\"\nrotate = \"{rotates}\"\n"
        );
        let body = json!({"name": name, "files": {"template.toml": manifest}});
        assert_eq!(plane.post("/v1/templates", body).await.0, 201);
        let (status, _, made) = plane.post("/v1/tenants", json!({"id": "acme", "template": name})).await;
        assert_eq!(status, 201, "{made}");
        let mut before = made["connection"].clone();
        let mut users = vec![before["pooled"]["user"].clone()];
        for round in 0..3 {
            is_served(&as_tenant(&before["pooled"]).await.unwrap(), &format!("{name} {round}")).await;
            let new = rotate(&plane, json!({"immediate": true})).await;
            assert_eq!(new["pooled"]["ready"], true, "{name} {round}");
            let client = as_tenant(&new["pooled"]).await.unwrap();
            is_served(&client, &format!("{name} {round}: the new one")).await;
            assert!(as_tenant(&before["pooled"]).await.is_err(), "{name} {round}: the old one is let in");
            users.push(new["pooled"]["user"].clone());
            before = new;
        }
        let second = if rotates == "second" { format!("{name}_acme_app_2") } else { format!("{name}_acme_app") };
        let first = json!(format!("{name}_acme_app"));
        assert_eq!(users, [first.clone(), json!(second), first, json!(second)]);
        assert_eq!(plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await.0, 200);
    }
    assert_eq!(pooler(&plane).await["health"], "healthy");
}

async fn rotate(plane: &Plane, body: Json) -> Json {
    let (status, _, rotated) = plane.post("/v1/tenants/acme/credentials/rotate", body).await;
    assert_eq!(status, 200, "{rotated}\n{}", plane.output());
    rotated["connection"].clone()
}
