//! A template that is as hostile as a tenant: its migrations run as the role that builds it, its claim.sql as the
//! tenant's maintenance login, and neither as the admin.

use serde_json::json;

use crate::payload;
use crate::world::{World, ask};

pub async fn a_hostile_template_runs_as_its_own_roles(world: &World) {
    let before = payload::ran(world).len();
    // Transactions of a migration end at the file's: what is refused in there would take the rest along.
    let migration = format!("{}\n{}", payload::functions("nobody"), payload::OBJECTS);
    let claim = "insert into public.trap (a) values (3); update public.trap set a = 4; select * from public.pitfall; select t::text from public.trap t; \
         select public.attempt('claim'); do $$ begin execute 'create role from_claim superuser'; exception when others then perform public.attempt('claim-do'); end $$;";
    let (status, body) = world
        .post(
            "/v1/templates",
            json!({"name": "hostile", "files": {"template.toml": "description = \"hostile\"\n", "migrations/0001_traps.sql": migration, "claim.sql": claim}}),
        )
        .await;
    assert_eq!(status, 201, "{body}");
    let tenant = world.create(json!({"id": "claimed", "template": "hostile"})).await;
    let ran: Vec<_> = payload::ran(world).split_off(before);
    assert!(ran.iter().any(|(how, ..)| how == "claim"), "claim.sql ran: {ran:?}");
    assert!(ran.iter().any(|(how, ..)| how == "index"), "the migration ran: {ran:?}");
    let admin = world.superuser("postgres").await;
    let admins = "select coalesce(string_agg(rolname, ','), '') from pg_roles where rolsuper or rolcreaterole";
    let admins = ask(&admin, admins).await;
    for (how, current, session) in &ran {
        assert!(!admins.split(',').any(|admin| admin == current), "{how} ran as {current} (session of {session})");
        if how.starts_with("claim") {
            assert_eq!((current.as_str(), session.as_str()), (tenant.owner(), tenant.maintenance().as_str()), "{how}");
        }
    }
    // VACUUM and ANALYZE of the admin run index functions, as their owner and nobody else. Everything else runs in the builder's session.
    let in_admins_sessions = ran.iter().filter(|(_, _, session)| admins.split(',').any(|admin| admin == session));
    let strange: Vec<_> = in_admins_sessions.filter(|(how, ..)| !["index", "check"].contains(&how.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(
        ask(&admin, "select count(*)::text from pg_roles where rolname in ('from_claim', 'nobody_raised')").await,
        "0"
    );
    assert_eq!(ask(&tenant.session().await, "select count(*)::text from public.stolen").await, "0");
    world.delete(&tenant, true).await;
}
