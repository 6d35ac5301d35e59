//! Keeps a worker that lost its lease from acting on (rule 8): its connections carry `fh:<operation>:<epoch>`.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::{SqlError, SqlErrorKind};

const DEADLINE: Duration = Duration::from_secs(10);

impl Admin {
    /// Ends connections whose application name is `prefix` + a lower epoch, and waits until those are gone. Answers
    /// how many. Waits only for those it saw: names are free text, and a tenant that keeps coming back under such
    /// a name must not keep an operation waiting.
    pub async fn fence_lower_epochs(&self, prefix: &str, epoch: i64) -> Result<usize, SqlError> {
        let doing = format!("fence epochs of {prefix} below {epoch}");
        let sql = "select pid, application_name from pg_stat_activity where starts_with(application_name, $1) and pid <> pg_backend_pid()";
        let pids: Vec<i32> = self
            .rows(&doing, sql, &[(&prefix, Type::TEXT)])
            .await?
            .iter()
            .filter(|row| is_lower(row.get(1), prefix, epoch))
            .map(|row| row.get(0))
            .collect();
        let deadline = Instant::now() + DEADLINE;
        // By pid *and* name: a pid may be given to somebody else meanwhile.
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid = any($1) and starts_with(application_name, $2)";
        while !pids.is_empty() {
            let left: i64 = self.row(&doing, sql, &[(&pids, Type::INT4_ARRAY), (&prefix, Type::TEXT)]).await?.get(0);
            if left == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(SqlError::new(
                    doing,
                    SqlErrorKind::Timeout,
                    format!("{left} connections are left after {DEADLINE:?}"),
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(pids.len())
    }
}

fn is_lower(name: &str, prefix: &str, epoch: i64) -> bool {
    name.strip_prefix(prefix).and_then(|rest| rest.parse::<i64>().ok()).is_some_and(|theirs| theirs < epoch)
}

#[cfg(test)]
mod tests {
    use super::is_lower;

    #[test]
    fn fence_compares_numbers_and_ignores_other_text() {
        assert!(is_lower("fh:a:9", "fh:a:", 10));
        assert!(!is_lower("fh:a:10", "fh:a:", 10));
        assert!(!is_lower("fh:a:x9", "fh:a:", 10));
        assert!(!is_lower("fh:b:9", "fh:a:", 10));
    }
}
