//! A tenant's connection in the forms that programs read. Each form has its own escaping; each is tested with the worst names.

use freehold_api::tenant::Endpoint;

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
pub fn variables(endpoint: &Endpoint) -> [(&'static str, String); 6] {
    [
        ("PGHOST", endpoint.host.clone()),
        ("PGPORT", endpoint.port.to_string()),
        ("PGDATABASE", endpoint.database.clone()),
        ("PGUSER", endpoint.user.clone()),
        ("PGPASSWORD", endpoint.password.clone()),
        ("PGSSLMODE", endpoint.sslmode.clone()),
    ]
}

fn env(endpoint: &Endpoint) -> String {
    let url = format!("DATABASE_URL={}", shell_quoted(&endpoint.url));
    let rest = variables(endpoint).map(|(name, value)| format!("{name}={}", shell_quoted(&value)));
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
    let Endpoint { host, port, database, user, password, .. } = endpoint;
    let [host, database, user, password] = [host, database, user, password].map(|text| escaped(text));
    format!("{host}:{port}:{database}:{user}:{password}")
}

fn jdbc(endpoint: &Endpoint) -> String {
    let Endpoint { port, database, user, password, sslmode, .. } = endpoint;
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let [database, user, password, sslmode] = [database, user, password, sslmode].map(|text| percent_encoded(text));
    format!("jdbc:postgresql://{host}:{port}/{database}?user={user}&password={password}&sslmode={sslmode}")
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
    let Endpoint { host, port, database, user, password, sslmode, .. } = endpoint;
    let [host, database, user, password, sslmode] = [host, database, user, password, sslmode].map(|text| quoted(text));
    format!("host={host} port={port} dbname={database} user={user} password={password} sslmode={sslmode}")
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
