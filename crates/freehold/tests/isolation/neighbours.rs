//! Every credential against every other database.

use std::collections::BTreeSet;

use freehold_testkit::as_tenant;
use futures::StreamExt;
use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::tenant;
use crate::world::{Power, Tenant, World, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_15_superuser() {
    neighbours(World::dev(15).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_18_superuser() {
    neighbours(World::dev(18).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_15_weak_admin() {
    neighbours(World::serve(15, Power::Weak).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_18_weak_admin() {
    neighbours(World::serve(18, Power::Weak).await).await;
}

async fn neighbours(world: World) {
    let tenants = world.tenants(20).await;
    no_pair_gets_in(&tenants).await;
    nothing_else_on_the_server_lets_a_tenant_in(&world, &tenants).await;
    tenant::cannot_do_what_it_must_not(&world, &tenants[0], &tenants[1]).await;
    tenant::does_its_work(&world, &tenants[2]).await;
    tenant::reads_nobodys_queries(&world, &tenants[3], &tenants[4]).await;
    tenant::keeps_nothing_when_refused(&world, &tenants[5]).await;
    tenant::cannot_resist_by_holding_on(&world, &tenants[6], &tenants[7], &tenants[8]).await;
}

async fn no_pair_gets_in(tenants: &[Tenant]) {
    for tenant in tenants {
        let session = tenant.session().await;
        assert_eq!(ask(&session, "select current_user").await, tenant.owner());
        assert_eq!(ask(&session, "select current_database()").await, tenant.database());
    }
    let pairs = tenants.iter().flat_map(|a| tenants.iter().filter(|b| b.id != a.id).map(move |b| (a, b)));
    let outcomes: Vec<_> = futures::stream::iter(pairs)
        .map(|(a, b)| async move { (a, b, a.connect_to(b.database()).await) })
        .buffer_unordered(8)
        .collect()
        .await;
    assert_eq!(outcomes.len(), 380);
    for (a, b, outcome) in outcomes {
        let error = outcome.err().unwrap_or_else(|| panic!("{} got into the database of {}", a.id, b.id));
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{} → {}: {error:?}", a.id, b.id);
    }
    // Passwords are their own: nobody's opens another's login.
    for (a, b) in tenants.iter().zip(tenants.iter().skip(1)) {
        let mut mixed = b.direct.clone();
        mixed["password"] = json!(a.password());
        let error = as_tenant(&mixed).await.expect_err("a foreign password opens nothing");
        assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD), "{error:?}");
    }
}

/// `postgres`, `template1`, the control store's database, the templates', the stock.
async fn nothing_else_on_the_server_lets_a_tenant_in(world: &World, tenants: &[Tenant]) {
    let admin = world.superuser("postgres").await;
    let rows = admin.query("select datname::text from pg_database", &[]).await.unwrap();
    let all: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let theirs: BTreeSet<&str> = tenants.iter().map(Tenant::database).collect();
    let others: Vec<&String> = all.iter().filter(|name| !theirs.contains(name.as_str())).collect();
    for expected in ["postgres", "template0", "template1", "freehold_control"] {
        assert!(others.iter().any(|name| *name == expected), "{others:?}");
    }
    assert!(others.len() > 4, "templates' databases: {others:?}");
    let mut open = Vec::new();
    for database in others {
        match tenants[0].connect_to(database).await {
            Ok(_) => open.push(database.as_str()),
            Err(error) => {
                let refused = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE];
                assert!(error.code().is_some_and(|code| refused.contains(code)), "{database}: {error:?}");
            }
        }
    }
    match world.power {
        Power::Superuser => assert_eq!(open, Vec::<&str>::new()),
        // What a weak admin may not close is named, after its REVOKE was read back.
        Power::Weak => {
            assert_eq!(open, ["postgres", "template1"]);
            let server = world.server().await;
            let findings = server["findings"].as_array().unwrap();
            let found: Vec<&str> = findings
                .iter()
                .filter(|finding| finding["code"] == "database_open_to_public")
                .filter_map(|finding| finding["message"].as_str())
                .collect();
            assert_eq!(found.len(), 2, "{findings:?}");
            assert!(found[0].contains("database postgres") && found[1].contains("database template1"), "{found:?}");
        }
    }
    // Somebody makes a database and leaves it open: closed at the next look, where the admin may.
    if world.power == Power::Superuser {
        admin.batch_execute("create database reporting").await.unwrap();
        drop(tenants[0].connect_to("reporting").await.expect("it is open now"));
        world
            .until_mended("the new database is closed", || async { tenants[0].connect_to("reporting").await.is_err() })
            .await;
    }
}
