//! The driver of an external pooler, of what is on record.

use std::sync::Arc;
use std::time::Duration;

use freehold_drivers::pooler::pgbouncer::{Release, SharedOptions, SharedPgBouncer};
use freehold_drivers::pooler::pgcat::{SharedPgCat, SharedPgCatOptions};
use freehold_drivers::pooler::{ConsoleLogin, Passwords, PoolerError, PoolerErrorKind, SharedPooler, Verifier};

use super::declare;
use super::store::{self, ExternalRow};
use crate::plane::Core;
use crate::stock::declare as logins;

/// For each command on the console, but PAUSE.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
const PACE: Duration = Duration::from_secs(1);
const CHECK: &str = "freehold_check";

/// Or why there can be none.
pub fn of(core: &Core, row: &ExternalRow) -> Result<Arc<dyn SharedPooler>, String> {
    let console = declare::admin(core, row)?;
    if is_pgcat(row) {
        if !core.settings.takes_pgcat() {
            return Err(crate::settings::PGCAT_REFUSED.into());
        }
        let file = row.file.clone().into();
        let options =
            SharedPgCatOptions { pooler: row.id.clone(), file, console, command_limit: COMMAND_LIMIT, pace: PACE };
        return Ok(Arc::new(SharedPgCat::new(options)));
    }
    let verifier = Verifier::parse(row.check_verifier.as_str()).map_err(|error| format!("its check login: {error}"))?;
    let users = row.users_file.clone().ok_or("no list of users is on record")?;
    Ok(Arc::new(SharedPgBouncer::new(SharedOptions {
        pooler: row.id.clone(),
        ini: row.file.clone().into(),
        users: users.into(),
        console,
        check: ConsoleLogin { name: CHECK.into(), verifier },
        check_password: declare::check_password(core, row)?,
        release: row.version.as_deref().and_then(|version| Release::parse(&format!("PgBouncer {version}"))),
        command_limit: COMMAND_LIMIT,
        pace: PACE,
    })))
}

pub fn is_pgcat(row: &ExternalRow) -> bool {
    row.kind == "pgcat"
}

/// Plain ones, opened for whoever cannot do without. One that does not open is left out, and its entry with it.
pub async fn passwords(core: &Core, pooler: &str) -> Result<Passwords, PoolerError> {
    let sealed = store::logins(&core.store, pooler).await.map_err(|error| {
        PoolerError::because(PoolerErrorKind::Other, "read the passwords that the pooler needs", error)
    })?;
    let opened = sealed.into_iter().filter_map(|login| {
        let opened = core.sealer.open_password(&logins::context(login.id, login.version), &login.password);
        Some((login.role, opened.ok()?))
    });
    Ok(opened.collect())
}
