//! The last step of stocking a database: logs in exactly as the tenant will.

use super::dsn::Dsn;
use super::error::{SqlError, SqlErrorKind};
use super::session::Session;

/// Says nothing that a tenant's search_path could answer. Asserts that this login lands in `database` as `owner`, also after `DISCARD ALL`. 15.9, 16.5 and 17.1 fail here.
pub async fn assert_login(dsn: &Dsn, database: &str, owner: &str) -> Result<(), SqlError> {
    let session = Session::connect(dsn, Some(database), "freehold probe", &[]).await?;
    let doing = || format!("log in as {} to {database}", dsn.user());
    for reset in ["", "DISCARD ALL"] {
        session.execute_script(reset).await?;
        let rows = session.simple_query("select current_user, pg_catalog.current_database()").await?;
        let row =
            rows.first().ok_or_else(|| SqlError::new(doing(), SqlErrorKind::Unexpected, "no answer to who am I"))?;
        let (user, place) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
        if (user, place) != (owner, database) {
            let message = format!("expected to be {owner} in {database}, but is {user} in {place}");
            return Err(SqlError::new(doing(), SqlErrorKind::Unexpected, message));
        }
    }
    session.close().await;
    Ok(())
}
