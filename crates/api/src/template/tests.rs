use proptest::prelude::*;

use super::{BadName, Files, Names, Template};
use crate::id::TenantId;
use crate::tenant::Labels;

const PATTERN: &str = "[naming]\nkind = \"pattern\"\n";

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
}

fn parse(pairs: &[(&str, &str)]) -> Result<Template, Vec<String>> {
    Template::parse("t".parse().unwrap(), files(pairs)).map_err(|bad| bad.faults)
}

fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
    parse(pairs).unwrap_err()
}

fn fault_of_sql(sql: &str) -> Option<String> {
    let all = parse(&[("template.toml", ""), ("migrations/0001_a.sql", sql)]).err()?;
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next()
}

fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    files(pairs)
}

fn named(database: &str, login: &str, normalise: &str) -> Template {
    let toml = format!("{PATTERN}database = {database:?}\nlogin = {login:?}\nnormalise = {normalise:?}\n");
    parse(&[("template.toml", &toml)]).unwrap()
}

#[test]
fn an_empty_manifest_is_a_template() {
    let template = parse(&[("template.toml", "")]).unwrap();
    assert_eq!((template.migrations.len(), template.claim, template.manifest.password.length), (0, None, 32));
    assert_eq!(template.version.len(), 64);
}

#[test]
fn all_faults_are_listed_with_their_files() {
    let all = faults(&[
        (
            "template.toml",
            "settings.role = \"x\"\n[naming]\nkind = \"pattern\"\nlogin = \"{who}\"\n[[role]]\nname = \"l2\"\ngrants = \"read\"\n",
        ),
        ("migrations/0001_a.sql", "CREATE TABLE a ();\nCOMMIT;\n\\connect other\n"),
        ("migrations/1_b.sql", ""),
        ("../etc/passwd", ""),
        ("README.md", ""),
    ]);
    for expected in [
        "../etc/passwd: a path has no empty part",
        "template.toml: naming.database: missing",
        "template.toml: naming.login: unknown placeholder {who}",
        "template.toml: settings: role is Freehold's own",
        "template.toml: role \"l2\": l and m",
        "README.md: unknown file",
        "migrations/1_b.sql: a migration is called NNNN_name.sql",
        "migrations/0001_a.sql: line 2: COMMIT: each file is run in one transaction",
        "migrations/0001_a.sql: line 3: a backslash command",
    ] {
        assert!(all.iter().any(|fault| fault.starts_with(expected)), "{expected:?} is not among {all:#?}");
    }
}

#[test]
fn a_manifest_that_cannot_be_read_names_the_line() {
    let all = faults(&[("template.toml", "description = \"x\"\ndatabase_owner = \"nobody\"\n")]);
    assert!(all[0].starts_with("template.toml: line 2: unknown variant"), "{all:?}");
    assert!(faults(&[("claim.sql", "")])[0].contains("template.toml: is missing"));
}

#[test]
fn migrations_are_ordered_by_number_and_their_numbers_are_unique() {
    let template = parse(&[
        ("template.toml", ""),
        ("migrations/10000_d.sql", ""),
        ("migrations/0002_b.sql", ""),
        ("migrations/0010_c.sql", ""),
    ]);
    let paths: Vec<String> = template.unwrap().migrations.into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["migrations/0002_b.sql", "migrations/0010_c.sql", "migrations/10000_d.sql"]);
    let all = faults(&[("template.toml", ""), ("migrations/0001_a.sql", ""), ("migrations/00001_b.sql", "")]);
    assert!(all[0].contains("has the number of"), "{all:?}");
}

#[test]
fn other_files_belong_to_a_foreign_tool() {
    let tool = "[migrate]\ncommand = [\"alembic\", \"upgrade\", \"head\"]\n";
    assert!(parse(&[("template.toml", tool), ("alembic.ini", ""), ("migrations/env.py", "")]).is_ok());
    assert!(parse(&[("template.toml", ""), ("alembic.ini", "")]).is_err());
    assert!(faults(&[("template.toml", tool), ("a", ""), ("a/b", "")])[0].contains("a file and a directory"));
    assert!(faults(&[("template.toml", "[migrate]\ncommand = []\n")])[0].contains("migrate.command"));
}

#[test]
fn hostile_paths_and_sizes_are_refused() {
    for path in ["/etc/passwd", "a/../b", "a\\b", "a\0b", "", "a//b", "./a", "a\nb"] {
        assert!(parse(&[("template.toml", "[migrate]\ncommand = [\"x\"]"), (path, "")]).is_err(), "{path:?}");
    }
    let large = "-".repeat((1 << 20) + 1);
    assert!(faults(&[("template.toml", ""), ("claim.sql", &large)])[0].contains("at most 1048576"));
    let many: Files = (0..201).map(|n| (format!("migrations/{n:04}_a.sql"), String::new())).collect();
    assert!(Template::parse("t".parse().unwrap(), many).unwrap_err().faults[0].contains("201 files"));
    assert!(faults(&[("template.toml", ""), ("claim.sql", "SELECT '\0'")])[0].contains("NUL"));
}

#[test]
fn sql_that_cannot_run_in_a_transaction_says_what_to_do() {
    for (sql, expected) in [
        ("begin;", "BEGIN: each file"),
        ("/* a /* b */ */ Start Transaction;", "START TRANSACTION: each file"),
        ("SELECT 1; -- x\nROLLBACK AND CHAIN", "line 2: ROLLBACK AND CHAIN: each file"),
        ("SELECT '; BEGIN'; END", "END: each file"),
        ("CREATE DATABASE x", "CREATE DATABASE X: the database is made by Freehold"),
        ("VACUUM (FULL)", "VACUUM FULL: it cannot run"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "leave out CONCURRENTLY"),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", "leave out CONCURRENTLY"),
        ("COPY t FROM stdin;\n1\t\\N\n\\.\n", "write INSERT"),
        ("SELECT 1 \\gset", "line 1: a backslash command"),
        ("SELECT 'a", "a quote that does not end"),
        ("SELECT E'a\\'", "a quote that does not end"),
        ("DO $x$ BEGIN $$", "a dollar quote that does not end"),
        ("/* /* */", "a comment that does not end"),
        ("\u{feff}SELECT 1", "byte order mark"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT;", "COMMIT: each file"),
    ] {
        let fault = fault_of_sql(sql).unwrap_or_else(|| panic!("{sql:?} passed"));
        assert!(fault.contains(expected), "{sql:?}: {fault:?} does not say {expected:?}");
    }
}

#[test]
fn sql_that_only_looks_like_it_passes() {
    for sql in [
        "-- BEGIN;\nSELECT 1",
        "/* COMMIT; */ SELECT 1; /* \\c */",
        "INSERT INTO t VALUES ('it''s; BEGIN; \\c'), (E'\\'; COMMIT;')",
        "DO $$ BEGIN PERFORM 1; END $$; DO $a$ BEGIN COMMIT; END $a$",
        "CREATE TABLE \"begin\" (\"commit;\" int); SELECT \"begin\" FROM x",
        "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN 1 END; SELECT 2; END; SELECT 1",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); DELETE FROM v)",
        "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE a",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
        "PREPARE p (int) AS SELECT $1; SELECT 1 AS a$b$c",
        "COPY t FROM '/x'; COMMENT ON TABLE t IS 'vacuum'",
        "",
    ] {
        assert_eq!(fault_of_sql(sql), None, "{sql:?}");
    }
}

#[test]
fn the_version_is_the_content() {
    let version = |pairs: &[(&str, &str)]| parse(pairs).unwrap().version;
    let one = version(&[("template.toml", ""), ("claim.sql", "SELECT 1")]);
    assert_eq!(one, version(&[("claim.sql", "SELECT 1"), ("template.toml", "")]));
    assert_ne!(one, version(&[("template.toml", ""), ("claim.sql", "SELECT 2")]));
    // Without lengths these two would read the same.
    let tool = ("template.toml", "[migrate]\ncommand = [\"x\"]");
    assert_ne!(version(&[tool, ("x", "yz")]), version(&[tool, ("xy", "z")]));
}

#[test]
fn patterns_are_filled_and_normalised() {
    let template = named("odoo_{customer:16}_{instance:8}", "{database}_user", "strip");
    let given = labels(&[("customer", "A1B2C3D4-E5F6-7890-ABCD-EF1234567890"), ("instance", "0f9e8d7c-1111-2222")]);
    let names = template.names_for(&tenant("x"), &given).unwrap().unwrap();
    assert_eq!(names.database, "odoo_a1b2c3d4e5f67890_0f9e8d7c");
    assert_eq!(names.login, "odoo_a1b2c3d4e5f67890_0f9e8d7c_user");
    assert_eq!(
        template.names_for(&tenant("x"), &labels(&[("customer", "a")])),
        Err(BadName::LabelMissing { label: "instance".to_owned() })
    );
    let tansu = named("tansu_tenant_{tenant}", "tansu_tenant_{tenant}_app", "underscore");
    assert_eq!(tansu.names_for(&tenant("a-b"), &Labels::new()).unwrap().unwrap().database, "tansu_tenant_a_b");
    let kept = named("x{instance}", "x{instance}", "keep");
    let names = kept.names_for(&tenant("a"), &labels(&[("instance", "Ä\"; DROP")])).unwrap();
    assert_eq!(names, Some(Names { database: "xÄ\"; DROP".to_owned(), login: "xÄ\"; DROP".to_owned() }));
}

#[test]
fn names_are_refused_not_cut() {
    let long = named("{tenant}_{tenant}", "{tenant}", "keep");
    let error = long.names_for(&tenant(&"a".repeat(48)), &Labels::new()).unwrap_err();
    assert!(matches!(&error, BadName::TooLong { bytes: 97, .. }), "{error}");
    let any = named("{instance}", "{instance}", "keep");
    let bytes = named("{instance:63}", "{instance:63}", "keep");
    for hostile in ["", "postgres", "template1", "pg_x", "fh_x", "a\0b", "a\nb", "public", "pgbouncer"] {
        let error = any.names_for(&tenant("a"), &labels(&[("instance", hostile)])).unwrap_err();
        assert!(matches!(error, BadName::Unusable { .. }), "{hostile:?}: {error}");
        assert!(!error.to_string().contains('\0'));
    }
    let error = bytes.names_for(&tenant("a"), &labels(&[("instance", &"ä".repeat(63))])).unwrap_err();
    assert!(matches!(error, BadName::TooLong { bytes: 126, .. }), "{error}");
}

#[test]
fn patterns_that_cannot_work_are_faults() {
    for (database, expected) in [
        ("shop", "two tenants would get one name"),
        ("{customer}", "two tenants would get one name"),
        ("{tenant", "a { without its }"),
        ("tenant}", "a } without its {"),
        ("{tenant:0}", "after the colon"),
        ("{tenant:64}", "after the colon"),
        ("{tenant:x}", "after the colon"),
        ("{database}x", "the login's pattern only"),
        ("fh_{tenant}", "Freehold reserves"),
        ("pg_{tenant}", "PostgreSQL reserves"),
    ] {
        let toml = format!("{PATTERN}database = {database:?}\nlogin = \"{{tenant}}\"\n");
        let all = faults(&[("template.toml", &toml)]);
        assert!(all.len() == 1 && all[0].contains(expected), "{database:?}: {all:?}");
    }
    assert!(
        faults(&[("template.toml", "[naming]\nkind = \"opaque\"\nlogin = \"{tenant}\"")])[0].contains("leave it out")
    );
}

proptest! {
    #[test]
    fn no_files_make_it_panic(
        toml in "\\PC{0,80}",
        path in ".{0,20}",
        sql in "[-/*'\"$eE\\\\ab;() \nBEGINCOMMIT\\PC]{0,60}",
    ) {
        let _ = parse(&[("template.toml", &toml), (&path, "x")]);
        let _ = parse(&[("template.toml", ""), ("migrations/0001_a.sql", &sql), (&path, &toml)]);
    }

    #[test]
    fn no_pattern_and_no_tenant_make_it_panic(
        database in "[a-z_]{0,8}(\\{(tenant|customer|instance|database|x)(:[0-9]{1,2})?\\})?\\PC{0,8}",
        login in "[a-z_]{0,8}\\{(tenant|customer|instance|database)(:[0-9]{1,2})?\\}\\PC{0,4}",
        normalise in prop::sample::select(vec!["keep", "underscore", "strip"]),
        id in "[a-z0-9][a-z0-9-]{0,47}",
        customer in ".{0,80}",
        instance in ".{0,80}",
    ) {
        let toml = format!("{PATTERN}database = {database:?}\nlogin = {login:?}\nnormalise = {normalise:?}\n");
        if let Ok(template) = parse(&[("template.toml", &toml)])
            && let Ok(Some(names)) = template.names_for(&tenant(&id), &labels(&[("customer", &customer), ("instance", &instance)]))
        {
            for name in [names.database, names.login] {
                prop_assert!((1..=63).contains(&name.len()) && !name.contains('\0'), "{name:?}");
            }
        }
    }
}
