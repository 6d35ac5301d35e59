//! The section `[pgbouncer]`: what is written, and what `SHOW CONFIG` has to say afterwards.
//!
//! Every setting that any configuration touches is written in every one: one that is left out keeps its old value over a
//! reload.

use super::super::{ClientTls, Configuration, ServerTls};
use super::files::Files;
use super::render::{check_name, path};
use super::version::Features;

/// Nothing is sent to syslog, so that its name is free to say which generation is loaded. The last line of the file.
pub(super) const GENERATION: &str = "syslog_ident";

pub(super) fn of<'a>(wanted: &'a Configuration, features: Features, files: &Files) -> Vec<(&'a str, String)> {
    let Configuration { listen, console, limits, .. } = wanted;
    let mut all: Vec<(&str, String)> =
        wanted.extra.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    all.extend([
        ("listen_addr", listen.addresses.join(",")),
        ("listen_port", listen.port.to_string()),
        ("unix_socket_dir", path(files.directory())),
        // 0700, as it shows it.
        ("unix_socket_mode", "448".into()),
        ("auth_type", "hba".into()),
        ("auth_file", path(&files.users())),
        ("auth_hba_file", path(&files.rules())),
        ("admin_users", console.admin.name.clone()),
        ("stats_users", check_name(&console.check, wanted.generation)),
        ("max_client_conn", limits.client_connections.to_string()),
        ("pool_mode", limits.default_mode.as_str().into()),
        ("default_pool_size", limits.default_pool_size.to_string()),
        ("reserve_pool_size", limits.default_reserve.to_string()),
        ("reserve_pool_timeout", limits.reserve_after_seconds.to_string()),
        ("max_db_connections", limits.default_database_connections.to_string()),
        ("query_wait_timeout", limits.client_wait_seconds.to_string()),
        ("server_idle_timeout", limits.server_idle_seconds.to_string()),
        ("server_lifetime", limits.server_lifetime_seconds.to_string()),
        ("server_connect_timeout", limits.server_connect_seconds.to_string()),
        ("server_login_retry", limits.server_retry_seconds.to_string()),
        // JDBC says it at every login. Not `options`: to ignore a search_path in silence is worse than to refuse it.
        ("ignore_startup_parameters", "extra_float_digits".into()),
        // Thousands of logins a minute are no news. Refusals are logged.
        ("log_connections", "0".into()),
        ("log_disconnections", "0".into()),
        ("log_stats", "0".into()),
    ]);
    if features.prepared_statements {
        all.push(("max_prepared_statements", limits.prepared_statements.to_string()));
    }
    let (mode, certificate, key, ca) = match &wanted.client_tls {
        ClientTls::Off => ("disable", None, None, None),
        ClientTls::Offered { certificate, key } => ("allow", Some(certificate), Some(key), None),
        ClientTls::Required { certificate, key } => ("require", Some(certificate), Some(key), None),
        ClientTls::Mutual { certificate, key, ca } => ("verify-full", Some(certificate), Some(key), Some(ca)),
    };
    let file = |file: Option<&std::path::PathBuf>| file.map_or_else(String::new, |file| path(file));
    all.extend([
        ("client_tls_sslmode", mode.to_owned()),
        ("client_tls_cert_file", file(certificate)),
        ("client_tls_key_file", file(key)),
        ("client_tls_ca_file", file(ca)),
    ]);
    let (mode, ca) = match &wanted.server_tls {
        ServerTls::Off => ("disable", None),
        ServerTls::Offered => ("prefer", None),
        ServerTls::VerifyFull { ca } => ("verify-full", Some(ca)),
    };
    all.extend([("server_tls_sslmode", mode.to_owned()), ("server_tls_ca_file", file(ca))]);
    all.push((GENERATION, loaded_as(wanted.generation)));
    all
}

fn loaded_as(generation: u64) -> String {
    format!("freehold-{generation}")
}

/// What [`GENERATION`] says.
pub(super) fn generation(value: &str) -> Option<u64> {
    value.strip_prefix("freehold-")?.parse().ok()
}
