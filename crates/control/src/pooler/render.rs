//! What a pooler serves, of the rows of its databases. Pure, and the same for the same rows: agents reload nothing where
//! nothing differs.

use freehold_api::plan::{Plan, PoolMode};
use freehold_drivers::pooler::{Entry, Limits, Login, Mode, Served, Server, Standing, Verifier};
use sha2::{Digest, Sha256};

use super::store::EntryRow;
use crate::settings::{Pooler, Settings};

/// Where not everybody can have a connection at once, who does nothing lends its own to others. In seconds.
const IDLE_WHERE_CROWDED: u32 = 2;

/// A row that holds no verifier is left out: nobody could log in by it.
pub fn served(settings: &Settings, rows: &[EntryRow]) -> Served {
    let plan = |name: &str| settings.plan(name).unwrap_or_else(|| settings.default_plan());
    let mut entries: Vec<Entry> = rows.iter().filter_map(|row| entry(row, plan(&row.plan))).collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut limits = limits(&settings.pooler);
    if rows.iter().any(|row| row.crowded) {
        limits.server_idle_seconds = limits.server_idle_seconds.min(IDLE_WHERE_CROWDED);
    }
    Served { limits, entries }
}

fn entry(row: &EntryRow, plan: &Plan) -> Option<Entry> {
    let mut logins = vec![login(&row.role, &row.verifier, row.refused)?];
    // One beside it that cannot be read takes nothing from the one that is handed out.
    logins.extend(row.beside.iter().filter_map(|one| login(&one.role, &one.verifier, row.refused || one.refused)));
    logins.sort_by(|one, other| one.role.cmp(&other.role));
    let (pool_size, reserve) = pool(plan, row.pooler_grant);
    Some(Entry {
        name: row.entry.clone(),
        server: Server { host: row.host.clone(), port: u16::try_from(row.port).ok()? },
        database: row.database.clone(),
        mode: plan.pool_mode.map(|mode| match mode {
            PoolMode::Transaction => Mode::Transaction,
            PoolMode::Session => Mode::Session,
        }),
        pool_size,
        reserve,
        database_connections: Some(pool_size + reserve),
        client_connections: plan.client_limit,
        logins,
    })
}

fn login(role: &str, verifier: &str, refused: bool) -> Option<Login> {
    let (verifier, standing) = match refused {
        false => (Verifier::parse(verifier).ok()?, Standing::Usable),
        true => (Verifier::unusable(role), Standing::Unusable),
    };
    Some(Login { role: role.to_owned(), verifier, standing })
}

/// Its size, and its reserve on top: what the plan says, and never more than is granted.
fn pool(plan: &Plan, granted: Option<i32>) -> (u32, u32) {
    let granted = granted.and_then(|granted| u32::try_from(granted).ok()).map_or(u32::MAX, |granted| granted.max(1));
    // The server admits no more of this login, so more would only make clients fail instead of wait.
    let size = plan.pool_size.min(plan.connection_limit).min(granted);
    (size, plan.pool_reserve.min(plan.connection_limit - size).min(granted - size))
}

/// Connections that a pool of this plan may open where nothing else limits it.
pub fn whole_pool(plan: &Plan) -> u32 {
    let (size, reserve) = pool(plan, None);
    size + reserve
}

fn limits(settings: &Pooler) -> Limits {
    Limits {
        client_connections: settings.client_connections,
        client_wait_seconds: settings.client_wait_seconds,
        server_idle_seconds: settings.server_idle_seconds,
        ..Limits::default()
    }
}

/// Of what the settings add to every entry: another one makes another generation.
pub fn fingerprint(settings: &Settings) -> String {
    let of_plans = settings.plans.iter().map(|plan| {
        let Plan { name, connection_limit, pool_size, pool_mode, pool_reserve, client_limit, default, .. } = plan;
        (name, connection_limit, pool_size, pool_mode, pool_reserve, client_limit, default)
    });
    let all = serde_json::to_vec(&(limits(&settings.pooler), of_plans.collect::<Vec<_>>()));
    let digest = Sha256::digest(all.expect("settings are written as JSON"));
    freehold_drivers::hex(&digest[..16])
}

#[cfg(test)]
mod tests {
    use freehold_drivers::pooler::pgbouncer::EntryName;
    use sqlx::types::Json;

    use super::super::store::Beside;
    use super::*;

    fn settings(more: &str) -> Settings {
        let head = "[store]\nurl = \"postgres://x\"\n[secrets]\nkey_file = \"k\"\n";
        toml::from_str::<Settings>(&format!("{head}{more}")).unwrap().checked().unwrap()
    }

    fn row(entry: &str) -> EntryRow {
        EntryRow {
            entry: entry.into(),
            database: "any \"name\" at all".into(),
            plan: "standard".into(),
            host: "db.example".into(),
            port: 5432,
            role: format!("{entry}_l"),
            verifier: Verifier::unusable("somebody").as_str().to_owned(),
            beside: Json(Vec::new()),
            refused: false,
            pooler_grant: None,
            crowded: false,
        }
    }

    #[test]
    fn render_is_sorted_and_the_same_every_time() {
        let rows = [row("b"), row("a"), row("c")];
        let one = served(&settings(""), &rows);
        let names: Vec<_> = one.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let [b, a, c] = rows;
        let other = served(&settings(""), &[c, b, a]);
        assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
        assert!(names.iter().all(|name| EntryName::parse(name).is_ok()));
    }

    #[test]
    fn render_takes_limits_from_the_plan_and_never_more_than_the_login_has() {
        let settings = settings(
            "[pooler]\nclient_wait_seconds = 7\n[[plan]]\nname = \"standard\"\nconnection_limit = 4\npool_size = 3\npool_reserve = 9\n\
             pool_mode = \"session\"\nclient_limit = 40",
        );
        let served = served(&settings, &[row("a")]);
        let entry = &served.entries[0];
        assert_eq!((entry.pool_size, entry.reserve, entry.database_connections), (3, 1, Some(4)));
        assert_eq!((entry.mode, entry.client_connections), (Some(Mode::Session), Some(40)));
        assert_eq!(served.limits.client_wait_seconds, 7);
    }

    #[test]
    fn render_gives_no_more_than_is_granted_and_hurries_where_it_is_crowded() {
        let settings =
            settings("[[plan]]\nname = \"standard\"\nconnection_limit = 20\npool_size = 8\npool_reserve = 4");
        for (granted, expected) in
            [(None, (8, 4)), (Some(12), (8, 4)), (Some(9), (8, 1)), (Some(8), (8, 0)), (Some(1), (1, 0))]
        {
            let served = served(&settings, &[EntryRow { pooler_grant: granted, ..row("a") }, row("b")]);
            let entry = &served.entries[0];
            assert_eq!((entry.pool_size, entry.reserve), expected, "{granted:?}");
            assert_eq!(entry.database_connections, Some(expected.0 + expected.1));
            assert_eq!((served.entries[1].pool_size, served.limits.server_idle_seconds), (8, 120));
        }
        assert_eq!(whole_pool(settings.default_plan()), 12);
        let crowded = super::served(&settings, &[row("a"), EntryRow { crowded: true, ..row("b") }]);
        assert_eq!(crowded.limits.server_idle_seconds, 2);
    }

    #[test]
    fn render_leaves_a_refused_login_in_the_list_with_nothing_that_fits() {
        let refused = EntryRow { refused: true, ..row("a") };
        let served = served(&settings(""), std::slice::from_ref(&refused));
        let login = &served.entries[0].logins[0];
        assert_eq!(login.standing, Standing::Unusable);
        assert_ne!(login.verifier.as_str(), refused.verifier);
        let broken = EntryRow { verifier: "secret".into(), ..row("a") };
        assert_eq!(super::served(&settings(""), &[broken]).entries.len(), 0);
    }

    #[test]
    fn render_serves_both_logins_of_a_rotation_until_one_is_retired() {
        let beside = |refused| {
            let verifier = row("a").verifier;
            Json(vec![Beside { role: "a_l2".into(), verifier, refused }])
        };
        let standings = |row: EntryRow| {
            let served = served(&settings(""), &[row]);
            let logins = served.entries[0].logins.iter();
            logins.map(|login| (login.role.clone(), login.standing)).collect::<Vec<_>>()
        };
        let (one, other) = ("a_l".to_owned(), "a_l2".to_owned());
        let both = standings(EntryRow { beside: beside(false), ..row("a") });
        assert_eq!(both, [(one.clone(), Standing::Usable), (other.clone(), Standing::Usable)]);
        let retired = standings(EntryRow { beside: beside(true), ..row("a") });
        assert_eq!(retired, [(one.clone(), Standing::Usable), (other.clone(), Standing::Unusable)]);
        let suspended = standings(EntryRow { beside: beside(false), refused: true, ..row("a") });
        assert_eq!(suspended, [(one, Standing::Unusable), (other, Standing::Unusable)]);
    }

    #[test]
    fn fingerprint_changes_with_what_is_rendered_and_with_nothing_else() {
        let of = |more: &str| fingerprint(&settings(more));
        assert_eq!(of(""), of("[stock]\nper_template = 3"));
        assert_ne!(of(""), of("[pooler]\nserver_idle_seconds = 7"));
        assert_eq!(of("[pooler]\ncapacity = 7"), of(""));
        assert_ne!(of("[[plan]]\nname = \"a\""), of("[[plan]]\nname = \"a\"\npool_reserve = 1"));
    }
}
