//! How a tenant's application connects. Every read of it is audited, before it is answered.

use axum::extract::State;
use freehold_api::id::TenantId;
use freehold_api::problem::Code;
use freehold_api::tenant::{self, Connection, Endpoint, Pooled};
use freehold_drivers::secrets::Context;
use freehold_drivers::server::sql::HostPort;
use uuid::Uuid;

use super::change;
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};
use crate::stock::declare;

/// Read a tenant's credentials
#[utoipa::path(get, path = "/v1/tenants/{id}/connection", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "Where and as whom to connect", body = Connection)))]
pub async fn show(State(plane): State<Plane>, caller: Caller, Id(id): Id<TenantId>) -> Answer<Json<Connection>> {
    let row = change::find(&plane, &id).await?;
    let connection = read(&plane, &caller.actor(), &row.id).await?;
    let detail = || Refused::new(Code::WrongState, format!("tenant {id} is {} and has no connection", row.state));
    connection.map(Json).ok_or_else(detail)
}

/// For an answer that may carry it: the read is on record before it is answered.
pub async fn read(plane: &Plane, actor: &Actor, tenant: &str) -> Answer<Option<Connection>> {
    let Ok(id) = tenant.parse::<TenantId>() else { return Ok(None) };
    let connection = find(&plane.core, &id).await?;
    if connection.is_some() {
        Event::done(actor, "credential.read", format!("tenant:{tenant}")).save(&plane.store).await?;
    }
    Ok(connection)
}

/// What a connection is made of. The password is sealed.
#[derive(sqlx::FromRow)]
pub struct Access {
    pub login: Uuid,
    version: i32,
    role: String,
    password: Vec<u8>,
    database: String,
    tenant_host: String,
    tenant_port: i32,
    tenant_sslmode: String,
    ca_certificate: Option<String>,
    pooler_entry: Option<String>,
    pooler_host: Option<String>,
    pooler_port: Option<i32>,
    pooler_sslmode: Option<String>,
    pooler_ca: Option<String>,
    pooler_ready: bool,
}

/// What [`Access`] is read from, besides the login: of `d`, what is said of a database; `s` its server, `p` its pooler, if
/// any. It is ready where it was seen in the generation that is in force, and somebody was heard of it a moment ago.
macro_rules! access {
    ($d:literal) => {
        concat!(
            "s.tenant_host, s.tenant_port, s.tenant_sslmode, s.ca_certificate, ",
            $d,
            ".pooler_entry, p.host AS pooler_host, p.port AS pooler_port, p.sslmode AS pooler_sslmode, p.ca_certificate AS pooler_ca,
            coalesce(",
            $d,
            ".pooled AND ",
            $d,
            ".pooler_generation <= p.observed_generation AND ",
            crate::pooler::store::fresh!(),
            ", false) AS pooler_ready"
        )
    };
}
pub(crate) use access;

/// None while the tenant has no database that is ready.
pub async fn find(core: &Core, tenant: &TenantId) -> Answer<Option<Connection>> {
    let sql = concat!(
        "SELECT l.id AS login, l.version, l.role, l.password, d.database, ",
        access!("d"),
        " FROM tenant t JOIN tenant_database d ON d.tenant_id = t.id JOIN login l ON l.database_id = d.id AND l.purpose = 'tenant'
        JOIN server s ON s.id = d.server_id LEFT JOIN pooler p ON p.id = d.pooler_id
        WHERE t.id = $1 AND d.state = 'claimed' AND t.state IN ('active', 'suspended', 'deleted')"
    );
    let row: Option<Access> = sqlx::query_as(sql).bind(tenant.as_str()).fetch_optional(&core.store).await?;
    row.map(|access| open(core, &access)).transpose()
}

pub fn open(core: &Core, access: &Access) -> Answer<Connection> {
    let context: Context = declare::context(access.login, access.version);
    let password = core
        .sealer
        .open_password(&context, &access.password)
        .map_err(|error| Refused::internal("open a sealed password", &error))?;
    let direct = endpoint(access, password.expose());
    let pooled = pooled(access, password.expose());
    Ok(Connection { direct, pooled, ca_certificate: access.ca_certificate.clone() })
}

fn pooled(row: &Access, password: &str) -> Option<Pooled> {
    let address = Address {
        hosts: vec![HostPort { host: row.pooler_host.clone()?, port: u16::try_from(row.pooler_port?).ok()? }],
        database: row.pooler_entry.as_deref()?,
        sslmode: row.pooler_sslmode.as_deref()?,
    };
    Some(Pooled {
        endpoint: address.endpoint(&row.role, password),
        ready: row.pooler_ready,
        ca_certificate: row.pooler_ca.clone(),
    })
}

struct Address<'a> {
    hosts: Vec<HostPort>,
    database: &'a str,
    sslmode: &'a str,
}

/// A server's address for tenants is one host, or several with their ports.
fn hosts(host: &str, port: u16) -> Vec<HostPort> {
    let one = || vec![HostPort { host: host.to_owned(), port }];
    if host.contains(',') { HostPort::parse_list(host, port).unwrap_or_else(|_| one()) } else { one() }
}

fn endpoint(row: &Access, password: &str) -> Endpoint {
    let port = u16::try_from(row.tenant_port).unwrap_or(5432);
    let hosts = hosts(&row.tenant_host, port);
    Address { hosts, database: &row.database, sslmode: &row.tenant_sslmode }.endpoint(&row.role, password)
}

impl Address<'_> {
    fn endpoint(self, user: &str, password: &str) -> Endpoint {
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let Self { hosts, database, sslmode } = self;
        let target = if hosts.len() > 1 { "&target_session_attrs=read-write" } else { "" };
        let url = format!(
            "postgres://{}:{}@{}/{}?sslmode={sslmode}{target}",
            encode(user),
            encode(password),
            HostPort::list(&hosts),
            encode(database)
        );
        let told = |at: &HostPort| tenant::HostPort { host: at.host.clone(), port: at.port };
        Endpoint {
            url,
            host: hosts[0].host.clone(),
            port: hosts[0].port,
            hosts: if hosts.len() > 1 { hosts.iter().map(told).collect() } else { Vec::new() },
            database: database.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            sslmode: sslmode.to_owned(),
        }
    }
}
