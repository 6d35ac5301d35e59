//! Issue 6, item 4: another credential without a restart, and the end of the one before.

use freehold_testkit::{Plane, as_tenant};
use serde_json::{Value as Json, json};

use crate::common::{
    add_template_body, admin, create, create_as, dev, dev_with, exits, expect, key, log_in, problem, settings, stdout,
    text, until,
};

const PATTERN: &str = "[naming]\nkind = \"pattern\"\ndatabase = \"app_{tenant}\"\nlogin = \"app_{tenant}_user\"\n\
                       [[role]]\nname = \"reader\"\ngrants = \"read\"\n";

async fn rotate(plane: &Plane, id: &str, body: Json) -> Json {
    let answer = plane.post(&format!("/v1/tenants/{id}/credentials/rotate"), body).await;
    expect(&answer, 200).clone()
}

fn user(connection: &Json) -> &str {
    connection["direct"]["user"].as_str().unwrap()
}

/// Whoever could log in by it, and what it owns in this database.
async fn left_of(plane: &Plane, database: &str, login: &str) -> String {
    let inside = admin(plane, database).await;
    let sql = "SELECT count(*)::text FROM pg_roles WHERE rolname = $1";
    inside.query_one(sql, &[&login]).await.unwrap().get(0)
}

#[tokio::test]
async fn story_both_credentials_are_in_force_until_the_old_one_is_retired() {
    let plane = dev().stock(1).start().await;
    let old = create(&plane, "acme").await["connection"].clone();
    let before = log_in(&old).await;
    before.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();

    let rotated = rotate(&plane, "acme", json!({"grace_seconds": 3600})).await;
    let new = rotated["connection"].clone();
    assert_ne!(user(&old), user(&new));
    assert_ne!(old["direct"]["password"], new["direct"]["password"]);
    assert_eq!(rotated["retiring"]["user"], old["direct"]["user"]);
    assert_eq!(plane.get("/v1/tenants/acme/connection").await.2, new);
    let shown = plane.get("/v1/tenants/acme").await.2;
    assert_eq!(shown["retiring"], rotated["retiring"], "{shown}");
    let told = stdout(&exits(plane.cli(&["tenant", "show", "acme"]), 0));
    assert!(told.contains(&format!("login {} until", user(&old))), "{told}");

    // Who is in stays in, and both come in, as the same owner.
    assert_eq!(text(&before, "SELECT n::text FROM kept").await, "7");
    let (one, other) = (log_in(&old).await, log_in(&new).await);
    assert_eq!(text(&one, "SELECT current_user::text").await, text(&other, "SELECT current_user::text").await);
    let limits = "SELECT current_setting('statement_timeout') || current_setting('work_mem') || \
                  (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user)";
    assert_eq!(text(&one, limits).await, text(&other, limits).await);
    // What either of them makes as itself is the owner's once it is gone.
    one.batch_execute(
        "SET ROLE NONE; CREATE SCHEMA mine; CREATE TABLE mine.t AS SELECT 'made' AS by; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA mine GRANT SELECT ON TABLES TO PUBLIC",
    )
    .await
    .unwrap();

    // Not two at once.
    let again = plane.post("/v1/tenants/acme/credentials/rotate", json!({})).await;
    let detail = problem(&again, 409, "wrong_state")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(user(&old)) && detail.contains("freehold credentials retire acme"), "{detail}");

    exits(plane.cli(&["credentials", "retire", "acme"]), 0);
    let refused = as_tenant(&old).await.expect_err("the old one is let in");
    assert!(refused.code().is_some(), "{refused:?}");
    assert!(before.simple_query("SELECT 1").await.is_err() && one.simple_query("SELECT 1").await.is_err());
    assert_eq!(text(&other, "SELECT by FROM mine.t").await, "made");
    let owner = "SELECT tableowner::text FROM pg_tables WHERE schemaname = 'mine'";
    assert_eq!(text(&other, owner).await, text(&other, "SELECT current_user::text").await);
    assert_eq!(left_of(&plane, new["direct"]["database"].as_str().unwrap(), user(&old)).await, "0");
    assert_eq!(plane.get("/v1/tenants/acme").await.2["retiring"], json!(null));
    // Nothing is left to do.
    expect(&plane.post("/v1/tenants/acme/credentials/retire", json!({})).await, 200);

    let audit = plane.get("/v1/audit?subject=tenant:acme&limit=100").await.2;
    let actions: Vec<&str> = audit["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    for action in ["tenant.rotate.begin", "tenant.rotate", "tenant.retire_login.begin", "tenant.retire_login"] {
        assert_eq!(actions.iter().filter(|found| **found == action).count(), 1, "{action} in {actions:?}");
    }
    assert!(actions.contains(&"credential.read"), "{actions:?}");
}

#[tokio::test]
async fn story_the_old_one_goes_by_itself_when_its_grace_is_over() {
    let settings = settings("[tenants]\nrotation_grace_seconds = 1\n");
    let plane = dev_with(&settings).stock(1).start().await;
    let old = create(&plane, "acme").await["connection"].clone();
    let session = log_in(&old).await;
    let new = rotate(&plane, "acme", json!({})).await["connection"].clone();
    until("the old one is gone", async || match plane.get("/v1/tenants/acme").await.2["retiring"].clone() {
        Json::Null => Ok(()),
        retiring => Err(retiring.to_string()),
    })
    .await;
    assert!(as_tenant(&old).await.is_err() && session.simple_query("SELECT 1").await.is_err());
    log_in(&new).await;
    let audit = plane.get("/v1/audit?action=tenant.retire_login.begin").await.2;
    assert_eq!(audit["items"][0]["actor"], "loop:credentials", "{audit}");
}

#[tokio::test]
async fn story_a_leaked_credential_is_refused_at_once() {
    let plane = dev().stock(2).start().await;
    let first = create(&plane, "acme").await["connection"].clone();
    let neighbour = log_in(&create(&plane, "other").await["connection"]).await;
    let second = rotate(&plane, "acme", json!({"grace_seconds": 3600})).await["connection"].clone();
    let sessions = [log_in(&first).await, log_in(&second).await];
    // It refuses the one in its grace as well.
    let told = exits(plane.cli(&["credentials", "rotate", "acme", "--immediate", "--json"]), 0);
    let rotated: Json = serde_json::from_str(&stdout(&told)).unwrap();
    assert_eq!(rotated["retiring"], json!(null), "{}", rotated["retiring"]);
    for (leaked, session) in [&first, &second].into_iter().zip(&sessions) {
        assert!(as_tenant(leaked).await.is_err());
        assert!(session.simple_query("SELECT 1").await.is_err(), "its session is served");
    }
    let third = &rotated["connection"];
    let all = [user(&first), user(&second), user(third)];
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
    log_in(third).await;
    neighbour.simple_query("SELECT 1").await.expect("the neighbour's session goes on");
    for login in &all[..2] {
        assert_eq!(left_of(&plane, "postgres", login).await, "0");
    }
}

#[tokio::test]
async fn story_rotation_in_every_state_and_with_bad_input() {
    let plane = dev().stock(2).start().await;
    let old = create(&plane, "acme").await["connection"].clone();
    let path = "/v1/tenants/acme/credentials/rotate";
    for body in [
        json!({"grace_seconds": 0}),
        json!({"grace_seconds": 7_776_001}),
        json!({"immediate": true, "grace_seconds": 60}),
        json!({"grace": 60}),
        json!({"grace_seconds": -1}),
    ] {
        problem(&plane.post(path, body).await, 422, "invalid");
    }
    problem(&plane.post("/v1/tenants/nobody/credentials/rotate", json!({})).await, 404, "not_found");
    exits(plane.cli(&["credentials", "rotate", "acme", "--grace", "soon"]), 2);

    // Suspended: the new one is refused as the old one is, and both come in when the tenant does.
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    let new = rotate(&plane, "acme", json!({})).await["connection"].clone();
    assert!(as_tenant(&old).await.is_err() && as_tenant(&new).await.is_err());
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    let (one, other) = (log_in(&old).await, log_in(&new).await);
    // A suspension, a deletion and their ends are about both of them.
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    assert!(one.simple_query("SELECT 1").await.is_err() && other.simple_query("SELECT 1").await.is_err());
    assert!(as_tenant(&old).await.is_err() && as_tenant(&new).await.is_err());
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200);
    assert!(as_tenant(&old).await.is_err() && as_tenant(&new).await.is_err());
    problem(&plane.post(path, json!({})).await, 409, "wrong_state");
    problem(&plane.post("/v1/tenants/acme/credentials/retire", json!({})).await, 409, "wrong_state");
    expect(&plane.post("/v1/tenants/acme/undelete", json!({})).await, 200);
    log_in(&old).await;
    log_in(&new).await;
    // A purge leaves neither.
    let owner = user(&old).strip_suffix("_l").unwrap();
    expect(&plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await, 200);
    let server = admin(&plane, "postgres").await;
    let left: Vec<String> = server
        .query("SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", &[&owner])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn story_who_may_rotate_and_who_sees_the_credential() {
    let plane = dev().stock(1).start().await;
    create(&plane, "acme").await;
    let path = "/v1/tenants/acme/credentials/rotate";
    let call = async |key: &str, once: &str| {
        let headers = [("authorization", key), ("idempotency-key", once)];
        plane.request(reqwest::Method::POST, path, &headers, Some(json!({"grace_seconds": 3600}))).await
    };
    problem(&call(&key(&plane, &["read"], None).await, "").await, 403, "denied");
    problem(&call(&key(&plane, &["operate"], Some(&["other"])).await, "").await, 403, "denied");
    let rotated = call(&key(&plane, &["operate"], None).await, "").await;
    assert_eq!(expect(&rotated, 200)["connection"], json!(null), "without the scope it is not shown");
    expect(&plane.post("/v1/tenants/acme/credentials/retire", json!({})).await, 200);

    // The same request again rotates nothing.
    let caller = key(&plane, &["provision", "credentials"], None).await;
    let first = call(&caller, "once").await;
    let replayed = call(&caller, "once").await;
    assert_eq!(replayed.1.get("idempotency-replayed").map(|value| value.to_str().unwrap()), Some("true"));
    assert_eq!(expect(&first, 200)["connection"], expect(&replayed, 200)["connection"]);
    assert_ne!(first.2["connection"], json!(null));
    let kept = crate::common::store(&plane).await;
    let password = first.2["connection"]["direct"]["password"].as_str().unwrap();
    let sql = "SELECT (SELECT count(*) FROM idempotency i WHERE strpos(i::text, $1) > 0) + (SELECT count(*) FROM operation o WHERE strpos(o::text, $1) > 0)
        + (SELECT count(*) FROM audit a WHERE strpos(a::text, $1) > 0)";
    assert_eq!(kept.query_one(sql, &[&password]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn story_a_name_by_pattern_alternates_with_its_second() {
    let plane = dev().stock(1).start().await;
    let body = add_template_body("app", &[("template.toml", PATTERN)]);
    expect(&plane.post("/v1/templates", body).await, 201);
    let first = create_as(&plane, json!({"id": "acme", "template": "app"})).await["connection"].clone();
    assert_eq!(user(&first), "app_acme_user");
    let second = rotate(&plane, "acme", json!({"immediate": true})).await["connection"].clone();
    assert_eq!(user(&second), "app_acme_user_2");
    log_in(&second).await.batch_execute("CREATE TABLE t (n int); SET ROLE NONE; CREATE SCHEMA mine").await.unwrap();
    let third = rotate(&plane, "acme", json!({"immediate": true})).await["connection"].clone();
    assert_eq!(user(&third), "app_acme_user");
    assert_ne!(third["direct"]["password"], first["direct"]["password"]);
    assert!(as_tenant(&first).await.is_err() && as_tenant(&second).await.is_err());
    let session = log_in(&third).await;
    assert_eq!(text(&session, "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'mine'").await, "1");
    // The template's roles are the new login's too.
    let extra = "SELECT string_agg(g.rolname, ' ')::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid \
                 JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = session_user";
    assert!(text(&session, extra).await.contains("_reader"));

    // Whoever has the name keeps it, and the tenant what it has.
    let server = admin(&plane, "postgres").await;
    server.batch_execute("CREATE ROLE app_acme_user_2").await.unwrap();
    let taken = plane.post("/v1/tenants/acme/credentials/rotate", json!({})).await;
    assert!(problem(&taken, 409, "name_taken")["detail"].as_str().unwrap().contains("app_acme_user_2"));
    server.batch_execute("DROP ROLE app_acme_user_2").await.expect("it is still there");
    assert_eq!(plane.get("/v1/tenants/acme/connection").await.2["direct"], third["direct"]);
    log_in(&third).await;

    // Longer than 63 bytes is no name, and is not cut.
    let long = "x".repeat(48);
    let body = PATTERN.replace("app_{tenant}_user", "application_{tenant}_u");
    expect(&plane.post("/v1/templates", add_template_body("long", &[("template.toml", &body)])).await, 201);
    create_as(&plane, json!({"id": long, "template": "long"})).await;
    let refused = plane.post(&format!("/v1/tenants/{long}/credentials/rotate"), json!({})).await;
    let detail = problem(&refused, 422, "prerequisite")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("64 bytes") && detail.contains("rotate = \"replace\""), "{detail}");
}

#[tokio::test]
async fn story_a_password_is_replaced_in_place_where_the_template_says_so() {
    let plane = dev().stock(1).start().await;
    let manifest = PATTERN.replace("[[role]]", "rotate = \"replace\"\n[[role]]");
    let body = add_template_body("fixed", &[("template.toml", &manifest)]);
    expect(&plane.post("/v1/templates", body).await, 201);
    let first = create_as(&plane, json!({"id": "acme", "template": "fixed"})).await["connection"].clone();
    let session = log_in(&first).await;
    let path = "/v1/tenants/acme/credentials/rotate";
    let graced = plane.post(path, json!({"grace_seconds": 60})).await;
    assert!(problem(&graced, 422, "invalid").to_string().contains("replace"), "{}", graced.2);

    let rotated = rotate(&plane, "acme", json!({})).await;
    let second = rotated["connection"].clone();
    assert_eq!((user(&second), &rotated["retiring"]), (user(&first), &json!(null)));
    assert!(as_tenant(&first).await.is_err(), "the old password is in force");
    log_in(&second).await;
    session.simple_query("SELECT 1").await.expect("who is in stays in");
    // Unless it is told that it leaked.
    let third = rotate(&plane, "acme", json!({"immediate": true})).await["connection"].clone();
    assert!(session.simple_query("SELECT 1").await.is_err());
    assert!(as_tenant(&second).await.is_err());
    log_in(&third).await;
}
