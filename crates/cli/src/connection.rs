//! A tenant's connection in the forms that programs read. Each form has its own escaping; each is tested with the worst names.

use freehold_api::tenant::{Endpoint, HostPort};

#[derive(Debug, Clone, Copy, PartialEq, Default, clap::ValueEnum)]
pub enum Format {
    /// postgres://user:password@host:port/database?sslmode=…
    #[default]
    Url,
    /// DATABASE_URL=… and PGHOST=… lines, quoted for a shell
    Env,
    /// A line for ~/.pgpass
    Pgpass,
    /// jdbc:postgresql://host:port/database?user=…
    Jdbc,
    /// host=… port=… for libpq
    Libpq,
}

pub fn render(endpoint: &Endpoint, format: Format) -> String {
    match format {
        Format::Url => endpoint.url.clone(),
        Format::Env => env(endpoint),
        Format::Pgpass => pgpass(endpoint),
        Format::Jdbc => jdbc(endpoint),
        Format::Libpq => libpq(endpoint),
    }
}

/// What libpq, and so psql, reads from the environment.
pub fn variables(endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let (hosts, ports) = lists(endpoint);
    let mut variables = vec![
        ("PGHOST", hosts),
        ("PGPORT", ports),
        ("PGDATABASE", endpoint.database.clone()),
        ("PGUSER", endpoint.user.clone()),
        ("PGPASSWORD", endpoint.password.clone()),
        ("PGSSLMODE", endpoint.sslmode.clone()),
    ];
    if endpoint.hosts.len() > 1 {
        variables.push(("PGTARGETSESSIONATTRS", "read-write".into()));
    }
    variables
}

/// All hosts and all ports, as libpq lists them.
fn lists(endpoint: &Endpoint) -> (String, String) {
    let hosts = hosts(endpoint);
    let list = |part: fn(&HostPort) -> String| hosts.iter().map(part).collect::<Vec<_>>().join(",");
    (list(|at| at.host.clone()), list(|at| at.port.to_string()))
}

fn hosts(endpoint: &Endpoint) -> Vec<HostPort> {
    match endpoint.hosts.is_empty() {
        true => vec![HostPort { host: endpoint.host.clone(), port: endpoint.port }],
        false => endpoint.hosts.clone(),
    }
}

fn env(endpoint: &Endpoint) -> String {
    let url = format!("DATABASE_URL={}", shell_quoted(&endpoint.url));
    let rest = variables(endpoint);
    let rest = rest.iter().map(|(name, value)| format!("{name}={}", shell_quoted(value)));
    std::iter::once(url).chain(rest).collect::<Vec<_>>().join("\n")
}

/// Quoted only where it must be, so that the lines also serve as an env file, whose readers do not unquote.
fn shell_quoted(value: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=".contains(c);
    if !value.is_empty() && value.chars().all(safe) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

fn pgpass(endpoint: &Endpoint) -> String {
    let escaped = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
    let Endpoint { database, user, password, .. } = endpoint;
    let [database, user, password] = [database, user, password].map(|text| escaped(text));
    let line = |at: &HostPort| format!("{}:{}:{database}:{user}:{password}", escaped(&at.host), at.port);
    hosts(endpoint).iter().map(line).collect::<Vec<_>>().join("\n")
}

fn jdbc(endpoint: &Endpoint) -> String {
    let Endpoint { database, user, password, sslmode, .. } = endpoint;
    let address = |at: &HostPort| match at.host.contains(':') {
        true => format!("[{}]:{}", at.host, at.port),
        false => format!("{}:{}", at.host, at.port),
    };
    let hosts: Vec<String> = hosts(endpoint).iter().map(address).collect();
    let target = if hosts.len() > 1 { "&targetServerType=primary" } else { "" };
    let hosts = hosts.join(",");
    let [database, user, password, sslmode] = [database, user, password, sslmode].map(|text| percent_encoded(text));
    format!("jdbc:postgresql://{hosts}/{database}?user={user}&password={password}&sslmode={sslmode}{target}")
}

/// Everything but unreserved characters: also `+`, which the driver would read as a blank.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn libpq(endpoint: &Endpoint) -> String {
    let quoted = |text: &str| {
        let safe = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if !text.is_empty() && text.chars().all(safe) {
            return text.to_owned();
        }
        format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
    };
    let Endpoint { database, user, password, sslmode, .. } = endpoint;
    let [database, user, password, sslmode] = [database, user, password, sslmode].map(|text| quoted(text));
    let ((hosts, ports), target) =
        (lists(endpoint), if endpoint.hosts.len() > 1 { " target_session_attrs=read-write" } else { "" });
    let (host, port) = match endpoint.hosts.len() {
        0 | 1 => (quoted(&hosts), ports),
        _ => (hosts, ports),
    };
    format!("host={host} port={port} dbname={database} user={user} password={password} sslmode={sslmode}{target}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn nasty() -> Endpoint {
        Endpoint {
            url: "postgres://o%27b:p%27%5C%3A%20%24x@[::1]:5432/db%3Aone?sslmode=require".into(),
            host: "::1".into(),
            port: 5432,
            hosts: Vec::new(),
            database: r"db:one\two".into(),
            user: "o'b & co".into(),
            password: r#"p'\: $x"`+/?#&=%é"#.into(),
            sslmode: "require".into(),
        }
    }

    #[test]
    fn every_format_escapes_as_its_reader_unescapes() {
        let nasty = nasty();
        assert_eq!(render(&nasty, Format::Pgpass), r#"\:\:1:5432:db\:one\\two:o'b & co:p'\\\: $x"`+/?#&=%é"#);
        assert_eq!(
            render(&nasty, Format::Jdbc),
            "jdbc:postgresql://[::1]:5432/db%3Aone%5Ctwo?user=o%27b%20%26%20co&password=p%27%5C%3A%20%24x%22%60%2B%2F%3F%23%26%3D%25%C3%A9&sslmode=require"
        );
        assert_eq!(
            render(&nasty, Format::Libpq),
            r#"host='::1' port=5432 dbname='db:one\\two' user='o\'b & co' password='p\'\\: $x"`+/?#&=%é' sslmode=require"#
        );
        assert_eq!(render(&nasty, Format::Url), nasty.url);
    }

    #[test]
    fn several_hosts_are_in_every_format() {
        let at = |host: &str, port| HostPort { host: host.into(), port };
        let several = Endpoint {
            url: "postgres://u:p@one:1,[::1]:2/d?sslmode=require&target_session_attrs=read-write".into(),
            host: "one".into(),
            port: 1,
            hosts: vec![at("one", 1), at("::1", 2)],
            database: "d".into(),
            user: "u".into(),
            password: "p".into(),
            sslmode: "require".into(),
        };
        assert!(render(&several, Format::Env).contains("PGHOST=one,::1\nPGPORT=1,2\n"));
        assert!(render(&several, Format::Env).ends_with("PGTARGETSESSIONATTRS=read-write"));
        assert_eq!(render(&several, Format::Pgpass), "one:1:d:u:p\n\\:\\:1:2:d:u:p");
        assert_eq!(
            render(&several, Format::Jdbc),
            "jdbc:postgresql://one:1,[::1]:2/d?user=u&password=p&sslmode=require&targetServerType=primary"
        );
        assert_eq!(
            render(&several, Format::Libpq),
            "host=one,::1 port=1,2 dbname=d user=u password=p sslmode=require target_session_attrs=read-write"
        );
    }

    #[test]
    fn a_shell_reads_back_what_env_wrote() {
        let nasty = nasty();
        let script =
            format!("{}\nprintf '%s|%s|%s' \"$PGPASSWORD\" \"$PGUSER\" \"$DATABASE_URL\"", render(&nasty, Format::Env));
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{}|{}|{}", nasty.password, nasty.user, nasty.url)
        );
    }

    #[test]
    fn plain_values_stay_unquoted() {
        let plain = Endpoint {
            url: "postgres://u:p@h:1/d?sslmode=disable".into(),
            host: "h".into(),
            port: 1,
            hosts: Vec::new(),
            database: "d".into(),
            user: "u".into(),
            password: "p".into(),
            sslmode: "disable".into(),
        };
        assert!(
            render(&plain, Format::Env)
                .ends_with("PGHOST=h\nPGPORT=1\nPGDATABASE=d\nPGUSER=u\nPGPASSWORD=p\nPGSSLMODE=disable")
        );
        assert_eq!(render(&plain, Format::Libpq), "host=h port=1 dbname=d user=u password=p sslmode=disable");
    }
}
