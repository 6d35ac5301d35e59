//! A connection that may touch a tenant's objects, because it is authenticated as one of the tenant's own roles:
//! the maintenance login for migrations, dumps and digests, or the login itself for probes.
//!
//! Nothing here is trusted: whatever the tenant defined runs with the tenant's rights. Absent: retries, and any
//! understanding of the scripts.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow, config};

use super::dsn::{Dsn, SslMode, TargetSessionAttrs};
use super::error::{SqlError, SqlErrorKind};
use super::tls;

pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    version_num: i32,
    database: String,
    greeting: Greeting,
}

/// What the server said of who logged in: free of charge, where a query would have to read the catalogs first.
#[derive(Default)]
pub(super) struct Greeting {
    pub user: Option<String>,
    pub superuser: Option<bool>,
}

/// What a [`Session`] is mostly used for: the third role, member of the owner only, never handed out.
pub type Maintenance = Session;

impl Session {
    /// Connects as the DSN says; `settings` are bound values of `set_config`, in force for the whole session.
    pub async fn connect(
        dsn: &Dsn,
        database: Option<&str>,
        application_name: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self, SqlError> {
        let session = Self::open(dsn, database, application_name, None).await?;
        for (name, value) in settings {
            session
                .client
                .execute("select pg_catalog.set_config($1, $2, false)", &[name, value])
                .await
                .map_err(|error| SqlError::from_pg(format!("set {name}"), error))?;
        }
        Ok(session)
    }

    /// Runs a script as one message: one transaction unless the script says otherwise.
    pub async fn execute_script(&self, sql: &str) -> Result<(), SqlError> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| SqlError::from_pg(format!("run a script in {}", self.database), error))
    }

    /// Rows as text.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, SqlError> {
        let messages = self
            .client
            .simple_query(sql)
            .await
            .map_err(|error| SqlError::from_pg(format!("query {}", self.database), error))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// For COPY, cancellation and whatever else has no verb here.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn version_num(&self) -> i32 {
        self.version_num
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    pub(super) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Says goodbye and waits until the server heard it, so that nothing is left in the database.
    pub async fn close(self) {
        let Self { client, connection, .. } = self;
        drop(client);
        let _ = timeout(Duration::from_secs(2), connection).await;
    }

    /// Hangs up in the middle of whatever it was asked. Dropping a session waits for the answer first, in its task.
    pub fn hang_up(&self) {
        self.connection.abort();
    }

    pub(super) async fn open(
        dsn: &Dsn,
        database: Option<&str>,
        application_name: &str,
        options: Option<&str>,
    ) -> Result<Self, SqlError> {
        let database = database.unwrap_or(dsn.database()).to_owned();
        let doing = format!("connect to {} as {}", dsn.with_database(&database).public(), dsn.user());
        let mut config = configure(dsn);
        config.dbname(database.as_str()).application_name(application_name);
        if let Some(options) = options {
            config.options(options);
        }
        let (client, connection) = first_of(dsn, &config, &doing).await?;
        let version_num = connection.parameter("server_version").map_or(0, parse_version);
        let greeting = Greeting {
            user: connection.parameter("session_authorization").map(str::to_owned),
            superuser: connection.parameter("is_superuser").map(|told| told == "on"),
        };
        let connection = tokio::spawn(async move {
            // Whoever waits for an answer gets this error there; nobody waiting means nobody to tell.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(Self { client, connection, version_num, database, greeting })
    }
}

/// The first host that lets us in and is what `target_session_attrs` wants. Where none does, the error that helps most:
/// a refused password says more than the silence of another host.
async fn first_of(dsn: &Dsn, config: &Config, doing: &str) -> Result<(Client, Connected), SqlError> {
    let limit = per_host(dsn);
    let mut errors = Vec::new();
    for at in dsn.hosts() {
        let mut config = config.clone();
        config.host(&at.host).port(at.port);
        // The client's own limit is for each socket; a server that accepts and then keeps silent needs this one.
        match timeout(limit, config.connect(tls::connector(dsn)?)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => errors.push((at, SqlError::from_pg(doing, error))),
            Err(_) => {
                let message = format!("no answer within {limit:?}");
                errors.push((at, SqlError::new(doing, SqlErrorKind::Unreachable, message)));
            }
        }
    }
    let away = |error: &SqlError| matches!(error.kind, SqlErrorKind::Unreachable | SqlErrorKind::StartingUp);
    let best = errors.iter().position(|(_, error)| !away(error)).unwrap_or(0);
    if errors.len() == 1 {
        return Err(errors.swap_remove(best).1);
    }
    let told: Vec<String> =
        errors.iter().map(|(at, error)| format!("{}:{}: {}", at.host, at.port, error.message())).collect();
    Err(errors.swap_remove(best).1.with_message(told.join("; ")))
}

type Connected = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <tls::Connector as MakeTlsConnect<tokio_postgres::Socket>>::Stream,
>;

/// Of several hosts the first may be a black hole: the others get their turn within the time that one would have had.
fn per_host(dsn: &Dsn) -> Duration {
    let hosts = u32::try_from(dsn.hosts().len()).unwrap_or(u32::MAX);
    (dsn.connect_timeout / hosts).max(Duration::from_secs(1)).min(dsn.connect_timeout)
}

fn configure(dsn: &Dsn) -> Config {
    let mut config = Config::new();
    config.user(dsn.user());
    if let Some(password) = dsn.password() {
        config.password(password.expose());
    }
    config
        .connect_timeout(per_host(dsn))
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(30))
        .ssl_mode(match dsn.sslmode() {
            SslMode::Disable => config::SslMode::Disable,
            SslMode::Prefer => config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
        })
        .target_session_attrs(match dsn.target_session_attrs() {
            TargetSessionAttrs::Any => config::TargetSessionAttrs::Any,
            TargetSessionAttrs::ReadWrite => config::TargetSessionAttrs::ReadWrite,
            TargetSessionAttrs::ReadOnly => config::TargetSessionAttrs::ReadOnly,
        });
    config
}

/// `15.13 (Debian 15.13-0)` → 150013, `19devel` → 190000.
fn parse_version(text: &str) -> i32 {
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let (major, rest) = text.split_once('.').unwrap_or((text, "0"));
    number(major) * 10_000 + number(rest)
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn version_is_read_from_what_servers_report() {
        assert_eq!(parse_version("15.13 (Debian 15.13-0+deb12u1)"), 150_013);
        assert_eq!(parse_version("18.4"), 180_004);
        assert_eq!(parse_version("19devel"), 190_000);
        assert_eq!(parse_version("19beta1"), 190_000);
        assert_eq!(parse_version("nonsense"), 0);
    }
}
