//! The client in front of a plane that dies in the middle of a create and comes back: whatever had happened by then,
//! there is exactly one tenant, and the answer's connection works, also for a key that may not read credentials.

use std::time::Duration;

use freehold_client::api::key::{CreateKey, CreatedKey, Scope};
use freehold_client::api::tenant::{CreateTenant, ListTenants, TenantState};
use freehold_client::{Client, Patience, Request};
use freehold_testkit::{Plane, as_tenant};
use rand::{RngExt, SeedableRng};

use crate::serving::BINARY;

/// The key of whoever signs tenants up: it may create them, and read nothing.
async fn sign_up(plane: &Plane) -> Client {
    let wanted = CreateKey { name: "sign-up".into(), scopes: vec![Scope::Provision], tenants: None, expires_at: None };
    let admin = Client::new(plane.url(), plane.api_key()).unwrap();
    let made = admin.send(Request::post(&["keys"]).body(&wanted).unwrap()).await.unwrap();
    let key = made.parse::<CreatedKey>().unwrap().key.unwrap();
    let patience = Patience { retry_for: Duration::from_secs(120), ..Patience::default() };
    Client::builder(plane.url(), &key).patience(patience).build().unwrap()
}

/// Kills the plane so long after the request was sent, with its PostgreSQL or without.
async fn create_through_a_death(plane: &mut Plane, client: &Client, id: &str, after: Duration, power_cut: bool) {
    let wanted = CreateTenant::named(id.parse().unwrap());
    let asking = tokio::spawn({
        let (client, wanted) = (client.clone(), wanted.clone());
        async move { client.create_tenant(&wanted).await }
    });
    tokio::time::sleep(after).await;
    match power_cut {
        true => plane.kill_everything().await,
        false => plane.kill_group().await,
    }
    plane.start_again().await;
    let made = asking.await.unwrap().unwrap_or_else(|error| panic!("{id} after {after:?}: {error}"));

    let connection = made.tenant.connection.unwrap_or_else(|| panic!("{id} after {after:?}: no connection"));
    assert!(made.new, "{id} after {after:?}: nobody else made it");
    let json = serde_json::to_value(&connection).unwrap();
    let tenant = as_tenant(&json).await.unwrap_or_else(|error| panic!("{id} after {after:?}: {error:?}"));
    tenant.batch_execute("CREATE TABLE mine (n int)").await.unwrap();

    let filter = ListTenants { q: Some(id.to_owned()), ..ListTenants::default() };
    let found = client.tenants(&filter).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].state, TenantState::Active);
    // The same again is the same, and nobody's creation.
    let again = client.create_tenant(&wanted).await.unwrap();
    assert!(!again.new && again.tenant.connection.is_none());
}

#[tokio::test]
async fn fault_a_client_creates_one_tenant_through_the_death_of_the_plane() {
    let mut plane = Plane::dev(BINARY).stock(1).start().await;
    let client = sign_up(&plane).await;
    // From stock an answer takes milliseconds, without it a second: so that kills fall before, in and after the commit.
    let seed = std::env::var("FREEHOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut chance = rand::rngs::StdRng::seed_from_u64(seed);
    for round in 0..6 {
        let most = if round % 2 == 0 { 30 } else { 400 };
        let after = Duration::from_millis(chance.random_range(0..most));
        create_through_a_death(&mut plane, &client, &format!("t-{round}"), after, round % 4 < 2).await;
    }
}

#[tokio::test]
async fn fault_a_client_creates_one_tenant_though_an_operation_kills_its_process() {
    for fault in ["tenant.create/Create/before=kill*1", "tenant.create/Own/after=kill*1"] {
        let mut plane = Plane::dev(BINARY).stock(0).env("FREEHOLD_FAULTS", fault).start().await;
        let client = sign_up(&plane).await;
        let wanted = CreateTenant::named("acme".parse().unwrap());
        let asking = tokio::spawn({
            let client = client.clone();
            async move { client.create_tenant(&wanted).await }
        });
        plane.wait_until_dead().await;
        plane.restart(&[("FREEHOLD_FAULTS", "")]).await;
        let made = asking.await.unwrap().unwrap_or_else(|error| panic!("{fault}: {error}\n{}", plane.output()));
        let connection = made.tenant.connection.unwrap_or_else(|| panic!("{fault}: no connection"));
        as_tenant(&serde_json::to_value(&connection).unwrap()).await.unwrap();
        assert_eq!(client.tenants(&ListTenants::default()).await.unwrap().len(), 1, "{fault}");
    }
}
