//! A tenant gets another plan while it works through its pooler, which lends it by the new one's limits from then on.

use std::time::Duration;

use freehold_testkit::{Directory, Plane, as_tenant};
use serde_json::{Value as Json, json};

use crate::bench::BINARY;
use crate::story::{ask, create, pooler, until};

const PLANS: &str = "[stock]\nper_template = 0\n[[plan]]\nname = \"small\"\nrank = 1\ndefault = true\nconnection_limit = 8\n\
    pool_size = 3\npool_mode = \"transaction\"\n[[plan]]\nname = \"large\"\nrank = 2\nconnection_limit = 30\npool_size = 11\n\
    pool_mode = \"transaction\"\n";

pub async fn a_plan_is_changed_while_its_tenant_works(version: &'static str) {
    let directory = Directory::new();
    let file = directory.path().join("freehold.toml");
    std::fs::write(&file, PLANS).unwrap();
    let settings = file.display().to_string();
    let plane = Plane::dev(BINARY).pooler(version).arg("--settings").arg(settings).start().await;
    until("the pooler is healthy", async || match pooler(&plane).await {
        pooler if pooler["health"] == "healthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let connection = create(&plane, "acme").await;
    as_tenant(&connection["direct"]).await.unwrap().batch_execute("create table n (n int)").await.unwrap();
    serves(&plane, &connection, 3).await;
    let (stop, told) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..6).map(|_| tokio::spawn(works(connection["pooled"].clone(), told.clone()))).collect();

    for (plan, pool, limit) in [("large", 11, "30"), ("small", 3, "8"), ("large", 11, "30")] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (status, _, changed) = plane.post("/v1/tenants/acme/plan", json!({"plan": plan})).await;
        assert_eq!((status, &changed["plan"]), (200, &json!(plan)), "{changed}");
        serves(&plane, &connection, pool).await;
        let direct = as_tenant(&connection["direct"]).await.unwrap();
        let sql = "select rolconnlimit::text from pg_roles where rolname = session_user";
        assert_eq!(ask(&direct, sql).await.unwrap(), limit);
    }
    stop.send(true).unwrap();
    for client in clients {
        assert!(client.await.unwrap() > 10, "they got on");
    }
}

/// What the pooler was given is what its plan says.
async fn serves(plane: &Plane, connection: &Json, pool: u32) {
    let entry = connection["pooled"]["database"].as_str().unwrap();
    until(&format!("a pool of {pool}"), async || {
        let ini = std::fs::read_to_string(plane.data_dir().join("pooler/run/pgbouncer.ini")).unwrap();
        let line = ini.lines().find(|line| line.starts_with(entry)).unwrap_or_default();
        if line.contains(&format!(" pool_size={pool} ")) { Ok(()) } else { Err(line.to_owned()) }
    })
    .await;
}

/// Transaction after transaction, none of which fails; answers how many.
async fn works(pooled: Json, told: tokio::sync::watch::Receiver<bool>) -> u32 {
    let client = as_tenant(&pooled).await.unwrap();
    let mut count = 0;
    while !*told.borrow() {
        client.batch_execute("begin; insert into n values (1); commit").await.unwrap();
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}
