use freehold_drivers::server::sql::movable::{Available, Locale};

use super::*;

fn named(names: &[&str]) -> Named {
    Named { count: names.len() as u64, names: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn codes(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.code.as_str()).collect()
}

struct World {
    version_num: i32,
    contents: Contents,
    theirs: Theirs,
    granted: Vec<String>,
    quota: Option<u64>,
    host: Host,
    locale: LocaleThere,
    free_bytes: Option<u64>,
}

fn world() -> World {
    let locale = Locale { encoding: "UTF8".into(), provider: "c".into(), collate: "C".into(), ..Locale::default() };
    World {
        version_num: 150_013,
        contents: Contents { locale, size_bytes: 100 << 20, ..Contents::default() },
        theirs: Theirs::default(),
        granted: Vec::new(),
        quota: None,
        host: Host { version_num: 150_013, superuser: true, ..Host::default() },
        locale: LocaleThere { exists: true, version: None },
        free_bytes: Some(1 << 30),
    }
}

impl World {
    fn judged(&self) -> Verdict {
        let facts = Facts {
            version_num: self.version_num,
            contents: &self.contents,
            theirs: &self.theirs,
            no_pg_dump: None,
            granted: &self.granted,
            quota: self.quota,
        };
        let (host, locale) = (&self.host, &self.locale);
        judge(&facts, &Target::There { name: "one", host, locale, free_bytes: self.free_bytes })
    }

    fn refused(&self, code: &str) {
        assert_eq!(codes(&self.judged().refusals), [code]);
    }
}

#[test]
fn import_of_an_ordinary_database_is_neither_refused_nor_remarked() {
    assert_eq!(world().judged(), Verdict::default());
    assert_eq!(codes(&too_old(110_022).refusals), ["source_version"]);
}

#[test]
fn import_says_what_may_not_be_read() {
    let mut world = world();
    world.theirs.unreadable = named(&["public.a"]);
    world.theirs.hidden = named(&["public.b"]);
    world.theirs.unreadable_objects = named(&["17"]);
    world.theirs.in_freehold = named(&["mine"]);
    let wanted = ["source_privilege", "source_large_objects", "row_security", "schema_freehold"];
    assert_eq!(codes(&world.judged().refusals), wanted);
}

#[test]
fn import_makes_no_extension_because_its_source_has_it() {
    let mut world = world();
    world.contents.extensions = vec![("dblink".into(), "1.2".into()), ("hstore".into(), "1.8".into())];
    assert_eq!(codes(&world.judged().refusals), ["extension_missing", "extension_missing"]);
    let version = |superuser, version: &str| Available {
        default_version: Some(version.to_owned()),
        versions: vec![version.to_owned()],
        superuser,
    };
    world.host.extensions.insert("hstore".into(), version(false, "1.8"));
    world.host.extensions.insert("dblink".into(), version(true, "1.2"));
    world.refused("extension_denied");
    world.granted.push("dblink".into());
    assert_eq!(world.judged(), Verdict::default());
    world.host.superuser = false;
    world.refused("extension_privilege");
    world.host.extensions.insert("dblink".into(), version(false, "1.1"));
    assert_eq!(codes(&world.judged().notes), ["extension_version"]);
}

#[test]
fn import_has_to_fit_its_server_and_its_plan() {
    let mut small = world();
    small.free_bytes = Some(110 << 20);
    small.refused("target_disk");
    small.free_bytes = Some(120 << 20);
    assert_eq!(small.judged(), Verdict::default());
    small.free_bytes = None;
    assert_eq!(codes(&small.judged().notes), ["disk_unknown"]);
    small.free_bytes = Some(120 << 20);
    small.quota = Some(99 << 20);
    small.refused("storage_quota");
    let mut elsewhere = world();
    elsewhere.locale.exists = false;
    elsewhere.refused("locale_missing");
    let mut newer = world();
    newer.version_num = 180_000;
    assert_eq!(codes(&newer.judged().notes), ["older_target"]);
    newer.contents.newer = named(&["virtual column of public.t"]);
    newer.refused("newer_feature");
}

#[test]
fn import_refuses_what_a_tenant_may_not_make_and_tells_what_it_leaves_out() {
    let mut world = world();
    world.theirs.superusers = named(&["routine public.f"]);
    world.contents.foreign = named(&["server far"]);
    world.theirs.policy_roles = named(&["app"]);
    world.theirs.casts = named(&["integer as text"]);
    world.contents.event_triggers = named(&["watch"]);
    world.contents.publications_of_all = named(&["all"]);
    world.contents.settings = named(&["search_path"]);
    let judged = world.judged();
    let wanted = ["superuser_objects", "superuser_casts", "foreign_server", "policy_roles"];
    assert_eq!(codes(&judged.refusals), wanted);
    assert_eq!(codes(&judged.notes), ["event_trigger", "publication", "database_settings"]);
}
