//! The way in that a tenant's application takes, one link at a time: name, port, TLS, login. For whoever has to say
//! which of them is broken. Everything has a limit; nothing is repeated.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::dsn::{Dsn, HostPort, SslMode};
use super::error::{SqlError, SqlErrorKind};
use super::session::Session;
use super::tls;

/// The request for TLS in PostgreSQL's protocol: its own length, then a number that is no version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

const NO_POSTGRES: &str = "whoever listens there is no PostgreSQL";

/// Who a login turned out to be, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    pub session_user: String,
    pub current_user: String,
    pub database: String,
    pub in_recovery: bool,
    /// The server, the database, or the role says that transactions do not write.
    pub read_only: bool,
}

/// The addresses of a name, in the resolver's order; never empty.
pub async fn resolve(at: &HostPort, limit: Duration) -> Result<Vec<SocketAddr>, SqlError> {
    let doing = || format!("resolve {}", at.host);
    let found = timeout(limit, tokio::net::lookup_host((at.host.as_str(), at.port))).await;
    let found = found.map_err(|_| too_late(doing(), limit))?.map_err(|error| {
        SqlError::new(doing(), SqlErrorKind::Unreachable, format!("the name does not resolve ({error})"))
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    match addresses.is_empty() {
        true => Err(SqlError::new(doing(), SqlErrorKind::Unreachable, "the name has no address")),
        false => Ok(addresses),
    }
}

/// The first of the addresses that takes a connection.
pub async fn dial(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, SqlError> {
    let mut last = None;
    for address in addresses {
        let doing = || format!("connect to {address}");
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(SqlError::new(doing(), SqlErrorKind::Unreachable, error.to_string())),
            Err(_) => last = Some(too_late(doing(), limit)),
        }
    }
    Err(last.unwrap_or_else(|| SqlError::new("connect", SqlErrorKind::Unreachable, "there is no address")))
}

/// Asks for TLS and shakes hands as `sslmode` says. False: the server does not speak it, and the mode does not insist.
pub async fn secure(mut stream: TcpStream, dsn: &Dsn, host: &str, limit: Duration) -> Result<bool, SqlError> {
    let doing = || format!("speak TLS with {host}");
    let asked = async {
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    let answer = timeout(limit, asked).await.map_err(|_| too_late(doing(), limit))?;
    let answer = answer.map_err(|error| {
        SqlError::new(doing(), SqlErrorKind::Unreachable, format!("whoever listens there hangs up: {error}"))
    })?;
    match (answer, dsn.sslmode()) {
        (b'S', _) => {}
        (b'N', SslMode::Prefer | SslMode::Disable) => return Ok(false),
        (b'N', _) => return Err(SqlError::new(doing(), SqlErrorKind::Tls, "the server does not speak TLS")),
        _ => return Err(SqlError::new(doing(), SqlErrorKind::Unexpected, NO_POSTGRES)),
    }
    let mut connector = tls::connector(dsn)?;
    let shake = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector, host)
        .map_err(|error| SqlError::new(doing(), SqlErrorKind::Tls, error.to_string()))?;
    match timeout(limit, shake.connect(stream)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(error)) => {
            let text = error.to_string();
            // An S may also be the first letter of a greeting.
            let message = if text.contains("InvalidContentType") { NO_POSTGRES.to_owned() } else { text };
            Err(SqlError::new(doing(), SqlErrorKind::Tls, message))
        }
        Err(_) => Err(too_late(doing(), limit)),
    }
}

/// Logs in and asks who it is. Runs as the tenant: nothing that comes back is more than what the tenant says.
pub async fn enter(dsn: &Dsn, database: &str) -> Result<Entered, SqlError> {
    let options = "-c search_path=pg_catalog -c statement_timeout=10000";
    let session = Session::open(dsn, Some(database), "freehold diagnose", Some(options)).await?;
    let sql = "select session_user, current_user, pg_catalog.current_database(), pg_catalog.pg_is_in_recovery(), \
               pg_catalog.current_setting('transaction_read_only')";
    let rows = session.simple_query(sql).await?;
    let doing = format!("log in to {database}");
    let row = rows.first().ok_or_else(|| SqlError::new(doing, SqlErrorKind::Unexpected, "no answer to who am I"))?;
    let text = |column: usize| row.get(column).unwrap_or_default().to_owned();
    let entered = Entered {
        session_user: text(0),
        current_user: text(1),
        database: text(2),
        in_recovery: text(3) == "t",
        read_only: text(4) == "on",
    };
    session.close().await;
    Ok(entered)
}

fn too_late(doing: String, limit: Duration) -> SqlError {
    SqlError::new(doing, SqlErrorKind::Unreachable, format!("no answer within {} s", limit.as_secs_f32()))
}
