//! More tenants than one pooler takes: each has one, and all are served.

use std::collections::BTreeMap;

use freehold_testkit::is_soak;
use futures::future::join_all;
use futures::{StreamExt, stream};

use crate::platform::{Place, all_are_healthy, pooled, poolers};
use crate::story::{ask, create, until_in};

const POOLERS: usize = 3;

pub async fn tenants_are_spread_over_poolers_and_all_are_served(version: &'static str) {
    // The whole: two thousand. It takes as long as that many databases take to make.
    let tenants = if is_soak() { 2_000 } else { 12 };
    let capacity = tenants / POOLERS + 1;
    let place = Place::new();
    let plane = place.plane(version, capacity, "").await;
    all_are_healthy(&plane, &["pooler-1"]).await;

    let names: Vec<String> = (0..tenants).map(|number| format!("t{number}")).collect();
    stream::iter(&names).map(|name| create(&plane, name)).buffer_unordered(4).collect::<Vec<_>>().await;
    all_are_healthy(&plane, &["pooler-1", "pooler-2", "pooler-3"]).await;
    let mut at: BTreeMap<u64, usize> = BTreeMap::new();
    for few in names.chunks(8) {
        let served = few.iter().map(async |name| {
            let found = pooled(&plane, name).await;
            let client = until_in(&found).await;
            let (database, user) = (&found["direct"]["database"], &found["direct"]["user"]);
            assert_eq!(ask(&client, "SELECT current_database()::text").await.unwrap(), database.as_str().unwrap());
            assert_eq!(ask(&client, "SELECT session_user::text").await.unwrap(), user.as_str().unwrap());
            found["pooled"]["port"].as_u64().unwrap()
        });
        for port in join_all(served).await {
            *at.entry(port).or_default() += 1;
        }
    }
    let found = poolers(&plane).await;
    assert_eq!(at.values().sum::<usize>(), tenants);
    assert!(at.len() == POOLERS && at.values().all(|many| *many <= capacity), "{at:?}");
    for pooler in found {
        assert_eq!(pooler["tenants"].as_u64(), Some(at[&pooler["port"].as_u64().unwrap()] as u64), "{pooler}");
    }
}
