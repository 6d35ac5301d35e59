//! Issue 2, item 4: the templates that ship, with the names and passwords that their systems expect.

use serde_json::{Value as Json, json};

use crate::common::{create_as, dev, expect, log_in, problem, text, until_stock};

fn endpoint(made: &Json) -> (&str, &str, &str) {
    let field = |name: &str| made["connection"]["direct"][name].as_str().unwrap();
    (field("database"), field("user"), field("password"))
}

#[tokio::test]
async fn story_every_shipped_template_makes_tenants_with_its_names() {
    let plane = dev().stock(1).start().await;
    let templates = plane.get("/v1/templates").await;
    let names: Vec<&str> =
        expect(&templates, 200)["items"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "dotmac", "railzway", "saasodoo", "tansucloud"]);

    // The first is made from nothing, the second from stock: nobody can tell.
    for round in ["one", "two"] {
        let labels = json!({
            "customer": format!("0198F2A0-{}-7abc-8def-001122334455", if round == "one" { "1111" } else { "2222" }),
            "instance": "deadbeef-0000-4000-8000-000000000000",
        });
        let customer = if round == "one" { "0198f2a011117abc" } else { "0198f2a022227abc" };
        for (template, database, login) in [
            ("default", None, None),
            ("dotmac", Some(format!("dotmac_x_{round}")), Some(format!("dotmac_x_{round}_app"))),
            ("railzway", Some(format!("railzway_org_x-{round}")), Some(format!("railzway_user_x-{round}"))),
            ("saasodoo", Some(format!("odoo_{customer}_deadbeef")), Some(format!("odoo_{customer}_deadbeef_user"))),
            ("tansucloud", Some(format!("tansu_tenant_x_{round}")), Some(format!("tansu_app_x_{round}"))),
        ] {
            // Names are the template's: one tenant of each is called the same.
            let id = if template == "default" { format!("default-{round}") } else { format!("x-{round}") };
            let body = json!({"id": id, "name": format!("X {round}"), "template": template, "labels": labels});
            let made = create_as(&plane, body).await;
            let (found, user, password) = endpoint(&made);
            match (&database, &login) {
                (Some(database), Some(login)) => assert_eq!((found, user), (database.as_str(), login.as_str())),
                _ => {
                    let opaque = |name: &str| name.starts_with("fh_") && !name.contains(round);
                    assert!(opaque(found) && opaque(user), "{found} {user}");
                    assert_eq!(found.len(), 19);
                }
            }
            assert_eq!(password.len(), 32, "{template}");
            assert!(password.bytes().all(|b| b.is_ascii_alphanumeric()));
            let session = log_in(&made["connection"]).await;
            assert_eq!(text(&session, "SELECT current_database()::text").await, found);
            session.batch_execute("CREATE TABLE mine (); DROP TABLE mine").await.unwrap();
            let extensions = text(
                &session,
                "SELECT coalesce(string_agg(extname::text, ',' ORDER BY extname::text), '') FROM pg_extension WHERE extname <> 'plpgsql'",
            )
            .await;
            match template {
                "dotmac" => assert_eq!(extensions, "btree_gin,pg_trgm,uuid-ossp"),
                "saasodoo" => assert_eq!(extensions, "pg_trgm,unaccent"),
                "tansucloud" => {
                    assert_eq!(made["missing_extensions"], json!(["citus", "vector"]));
                    let info = "SELECT tenant_id || '|' || display_name FROM tenant_info";
                    assert_eq!(text(&session, info).await, format!("x-{round}|X {round}"));
                    let version = "SELECT database_name || '|' || version FROM \"__SchemaVersion\"";
                    assert_eq!(text(&session, version).await, format!("{found}|1.0.0"));
                    session
                        .batch_execute("SELECT FROM collections, documents, outbox_events, vector_embeddings")
                        .await
                        .unwrap();
                }
                _ => assert_eq!(extensions, ""),
            }
            until_stock(&plane, template, 1).await;
            // The id is free for the next template.
            if template != "default" {
                let id = id.as_str();
                expect(&plane.delete(&format!("/v1/tenants/{id}?confirm={id}&purge=true")).await, 200);
                let server = crate::common::admin(&plane, "postgres").await;
                let left = "SELECT count(*) FROM pg_database d FULL JOIN pg_roles r ON false WHERE d.datname = $1 OR r.rolname = $2";
                let left: i64 = server.query_one(left, &[&found, &user]).await.unwrap().get(0);
                assert_eq!(left, 0, "{template}");
            }
        }
    }

    // What a name is made of must be there.
    let answer = plane.post("/v1/tenants", json!({"id": "nameless", "template": "saasodoo"})).await;
    assert!(problem(&answer, 422, "invalid").to_string().contains("customer"), "{}", answer.2);
    let answer = plane
        .post("/v1/tenants", json!({"id": "odd", "template": "saasodoo", "labels": {"customer": "☃", "instance": "'"}}))
        .await;
    problem(&answer, 422, "invalid");
}
