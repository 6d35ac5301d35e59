//! pgbench at work on the tenants of two poolers, and one of the two is killed.

use std::time::Duration;

use freehold_testkit::Plane;
use nix::sys::signal::{Signal, kill};
use serde_json::Value as Json;

use crate::pgbench::Pgbench;
use crate::platform::{Place, all_are_healthy, pooled, poolers};
use crate::story::{create, until, until_in};

/// One tenant fits on each pooler, and there is always one with room.
const POOLERS: [&str; 3] = ["pooler-1", "pooler-2", "pooler-3"];

pub async fn a_killed_pooler_is_noticed_by_its_own_tenants_alone(version: &'static str) {
    let place = Place::new();
    let plane = place.plane(version, 1, "").await;
    let mut at = Vec::new();
    for id in ["hit", "spared"] {
        create(&plane, id).await;
        let connection = pooled(&plane, id).await;
        Pgbench::fill(&connection["direct"]).await;
        at.push(connection);
    }
    let [hit, spared] = at.as_slice() else { unreachable!("two") };
    assert_ne!(hit["pooled"]["port"], spared["pooled"]["port"]);
    all_are_healthy(&plane, &POOLERS).await;
    let (dead, alive) = (of(&plane, hit).await, of(&plane, spared).await);

    let mut struck = Pgbench::start(&hit["pooled"], "simple");
    let mut goes_on = Pgbench::start(&spared["pooled"], "simple");
    tokio::join!(struck.more(Duration::from_secs(2)), goes_on.more(Duration::from_secs(2)));
    let killed = place.pgbouncer(dead["id"].as_str().unwrap());
    kill(killed, Signal::SIGKILL).unwrap();
    struck.breaks().await.check(&hit["direct"]).await;

    // Through the same address it works again, on a history of its own.
    until_in(hit).await;
    Pgbench::fill(&hit["direct"]).await;
    let mut again = Pgbench::start(&hit["pooled"], "simple");
    again.more(Duration::from_secs(3)).await;
    again.end().await.check(&hit["direct"]).await;
    goes_on.more(Duration::ZERO).await;
    goes_on.end().await.check(&spared["direct"]).await;

    until("the death is counted", async || match of(&plane, hit).await {
        pooler if pooler["deaths"] == 1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    assert_eq!(of(&plane, spared).await["deaths"], alive["deaths"]);
    assert_ne!(place.pgbouncer(dead["id"].as_str().unwrap()), killed);
}

/// Its pooler: the one at this port.
async fn of(plane: &Plane, connection: &Json) -> Json {
    let found = poolers(plane).await;
    let own = found.into_iter().find(|pooler| pooler["port"] == connection["pooled"]["port"]);
    own.expect("the tenant has a pooler")
}
