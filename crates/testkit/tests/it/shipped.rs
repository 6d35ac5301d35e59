//! The templates and plans that ship: valid, and the SQL of the templates runs on every version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use freehold_api::id::TenantId;
use freehold_api::plan::Plan;
use freehold_api::template::{DatabaseOwner, Names, Template};
use freehold_testkit::Cluster;
use tokio_postgres::Client;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn shipped() -> BTreeMap<String, Template> {
    let directories = fs::read_dir(root().join("templates")).unwrap().map(|entry| entry.unwrap());
    let templates = directories.map(|directory| {
        let name = directory.file_name().into_string().unwrap();
        let mut files = BTreeMap::new();
        read(&directory.path(), "", &mut files);
        let template = Template::parse(name.parse().unwrap(), files).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        (name, template)
    });
    templates.collect()
}

#[test]
fn every_template_is_valid_and_described() {
    let templates = shipped();
    assert_eq!(templates.keys().collect::<Vec<_>>(), ["default", "dotmac", "railzway", "saasodoo", "tansucloud"]);
    for (name, template) in templates {
        assert!(!template.manifest.description.is_empty(), "{name} is not described");
        assert_eq!(template.manifest.database_owner, DatabaseOwner::Admin, "{name}");
        assert_eq!(template.manifest.password.length, 32, "{name}");
    }
}

#[test]
fn names_are_those_of_the_five_systems() {
    let templates = shipped();
    let labels =
        [("customer", "8A0C2F4E-1111-2222-3333-444455556666"), ("instance", "deadbeef-0000-1111-2222-333344445555")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let names = |template: &str, id: &str| templates[template].names_for(&id.parse().unwrap(), &labels).unwrap();
    let expected = |database: &str, login: &str| Some(Names { database: database.to_owned(), login: login.to_owned() });
    assert_eq!(names("default", "acme"), None);
    assert_eq!(names("tansucloud", "acme-2"), expected("tansu_tenant_acme_2", "tansu_app_acme_2"));
    assert_eq!(names("railzway", "1789"), expected("railzway_org_1789", "railzway_user_1789"));
    assert_eq!(names("dotmac", "acme-2"), expected("dotmac_acme_2", "dotmac_acme_2_app"));
    let odoo = "odoo_8a0c2f4e11112222_deadbeef";
    assert_eq!(names("saasodoo", "acme"), expected(odoo, &format!("{odoo}_user")));
    // Every id fits: nobody learns at the create that theirs is too long.
    let longest: TenantId = "a".repeat(48).parse().unwrap();
    for template in templates.values() {
        template.names_for(&longest, &labels).unwrap();
    }
}

#[test]
fn every_file_of_plans_is_valid_and_ordered() {
    #[derive(serde::Deserialize)]
    struct File {
        plan: Vec<Plan>,
    }
    for (file, names) in [
        ("railzway", vec!["free-trial", "starter", "pro", "team", "enterprise"]),
        ("saasodoo", vec!["basic", "standard", "premium", "enterprise"]),
    ] {
        let text = fs::read_to_string(root().join(format!("deploy/plans/{file}.toml"))).unwrap();
        let plans = toml::from_str::<File>(&text).unwrap().plan;
        assert_eq!(plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>(), names);
        assert!(plans.is_sorted_by(|a, b| a.rank < b.rank));
        assert_eq!(plans.iter().filter(|plan| plan.default).count(), 1);
    }
}

/// As the plane does it: the admin makes database and extensions, the maintenance login becomes the owner.
async fn build(cluster: &Cluster, template: &Template, database: &str, with_extensions: bool) -> Client {
    let admin = cluster.connect("postgres").await;
    admin.batch_execute(&format!("CREATE ROLE {database}_o NOLOGIN")).await.unwrap();
    admin.batch_execute(&format!("CREATE ROLE {database}_m LOGIN PASSWORD 'x' IN ROLE {database}_o")).await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let admin = cluster.connect(database).await;
    admin.batch_execute(&format!("ALTER SCHEMA public OWNER TO {database}_o")).await.unwrap();
    for extension in template.manifest.extensions.iter().filter(|_| with_extensions) {
        let available =
            admin.query_opt("SELECT FROM pg_available_extensions WHERE name = $1", &[&extension.name]).await.unwrap();
        if available.is_some() {
            let schema = extension.schema.as_deref().unwrap_or("public");
            admin.batch_execute(&format!("CREATE EXTENSION \"{}\" SCHEMA {schema}", extension.name)).await.unwrap();
        }
    }
    let client = cluster.connect_as(&format!("{database}_m"), "x", database).await.unwrap();
    for (path, sql) in &template.migrations {
        client.batch_execute(&format!("BEGIN; SET LOCAL ROLE {database}_o")).await.unwrap();
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        client.batch_execute("COMMIT").await.unwrap();
    }
    client
}

async fn claim(client: &Client, template: &Template, database: &str, external_id: &str) {
    client.batch_execute(&format!("BEGIN; SET LOCAL ROLE {database}_o")).await.unwrap();
    for (name, value) in [
        ("tenant_id", "acme-x"),
        ("tenant_name", "O'Brien; DROP TABLE tenant_info; -- 🙂"),
        ("tenant_plan", "standard"),
        ("tenant_region", ""),
        ("database", database),
        ("created_at", "2026-11-21T07:00:00Z"),
        ("label_external_id", external_id),
    ] {
        client.query("SELECT set_config('freehold.' || $1, $2, true)", &[&name, &value]).await.unwrap();
    }
    client.batch_execute(template.claim.as_deref().unwrap()).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
}

async fn templates_build_on(version: u32) {
    let cluster = Cluster::start(version);
    for (name, template) in shipped() {
        build(&cluster, &template, &format!("it_{name}"), true).await;
    }
    let template = &shipped()["tansucloud"];
    for (database, with_extensions, external_id) in [("has_them", true, ""), ("lacks_them", false, "acme.x")] {
        let client = build(&cluster, template, database, with_extensions).await;
        // A claim that was interrupted runs again.
        claim(&client, template, database, external_id).await;
        claim(&client, template, database, external_id).await;
        client.batch_execute(&format!("SET ROLE {database}_o")).await.unwrap();
        let row = client.query_one("SELECT tenant_id, display_name FROM tenant_info", &[]).await.unwrap();
        let id = if external_id.is_empty() { "acme-x" } else { external_id };
        assert_eq!(row.get::<_, String>(0), id);
        assert!(row.get::<_, String>(1).starts_with("O'Brien; DROP"));
        let row = client.query_one("SELECT database_name, version FROM \"__SchemaVersion\"", &[]).await.unwrap();
        assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, String>(1).as_str()), (database, "1.0.0"));
        let kind = "SELECT udt_name::text FROM information_schema.columns WHERE column_name = 'embedding'";
        let kind: String = client.query_one(kind, &[]).await.unwrap().get(0);
        let installed =
            client.query_opt("SELECT FROM pg_extension WHERE extname = 'vector'", &[]).await.unwrap().is_some();
        assert_eq!(kind, if installed { "vector" } else { "_float4" });
        let event = "INSERT INTO outbox_events (type, idempotency_key) VALUES ('x', 'once')";
        client.batch_execute(event).await.unwrap();
        assert_eq!(client.batch_execute(event).await.unwrap_err().code().unwrap().code(), "23505");
    }
}

#[tokio::test]
async fn templates_build_on_15() {
    templates_build_on(15).await;
}

#[tokio::test]
async fn templates_build_on_16() {
    templates_build_on(16).await;
}

#[tokio::test]
async fn templates_build_on_18() {
    templates_build_on(18).await;
}
