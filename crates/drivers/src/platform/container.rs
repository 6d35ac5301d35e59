//! What a container of our image (`deploy/images/postgres`) is given, the same on every engine: files, environment,
//! health check; and what its exit codes mean. Pure.
//!
//! Absent: secrets in the environment. Whoever may inspect a container sees it; files are the engine's to protect.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Network, PlatformError, PlatformErrorKind, Postgres, Program, Service, Storage};

/// Where the image looks for [`files`].
pub(super) const FILES: &str = "/run/freehold";
/// Where it keeps its data, below the mount.
pub(super) const ROOT: &str = "/var/lib/postgresql";
/// Where *prepare* and *purge* see the directory that servers' directories are in.
pub(super) const PARENT: &str = "/storage";
/// `postgres` in every image: data made by one is read by the next.
pub(super) const USER: u32 = 999;
pub(super) const PORT: u16 = 5432;
pub(super) const HEALTH: [&str; 2] = ["freehold-postgres", "health"];
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(8);
pub(super) const HEALTH_RETRIES: i64 = 5;
/// Until it has accepted connections once, nothing counts against it: recovery takes as long as it takes.
pub(super) const HEALTH_START: Duration = Duration::from_secs(24 * 3600);
/// What *prepare* and *purge* need of root's powers: to give a directory to postgres, and to become it.
pub(super) const ROOT_CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];

/// Of two Freeholds with a server of the same name the storage is one's.
const INSTANCE: &str = "FREEHOLD_INSTANCE";
/// The image's exit code for storage that is somebody else's; *purge* leaves it alone, which is all that is wanted of it.
pub(super) const FOREIGN: i64 = 77;

pub(super) struct File {
    pub name: &'static str,
    pub text: SecretString,
    pub is_secret: bool,
}

impl File {
    /// Names a secret or a config, which cannot be changed: another content is another one.
    pub(super) fn digest(&self) -> String {
        hex(&[self.name, self.text.expose_secret()], 12)
    }
}

pub(super) fn files(postgres: &Postgres) -> [File; 5] {
    let open = |name, text: &str| File { name, text: text.into(), is_secret: false };
    let settings: String = postgres.settings.iter().map(|(name, value)| setting(name, value)).collect();
    [
        open("settings.conf", &settings),
        open("pg_hba.conf", &postgres.hba),
        open("server.crt", &postgres.certificate_pem),
        File { name: "server.key", text: postgres.certificate_key.clone(), is_secret: true },
        File { name: "admin_verifier", text: postgres.admin_verifier.clone().into(), is_secret: true },
    ]
}

/// A line of `postgresql.conf`.
pub(super) fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

impl Service {
    /// Empty where a platform needs none.
    pub(super) fn image_reference(&self) -> &str {
        self.image.as_ref().map_or("", |image| &image.reference)
    }

    /// The directory that its own is in; none where it has a volume.
    pub(super) fn directory(&self) -> Option<String> {
        match &self.storage {
            Storage::Volume => None,
            Storage::Directory { path, .. } => Some(path.display().to_string()),
        }
    }

    /// Where tenants reach it.
    pub(super) fn address(&self) -> (String, u16) {
        match &self.network {
            Network::Port { host, port } => (host.clone(), *port),
            Network::Overlay { .. } => (self.name.clone(), PORT),
        }
    }
}

pub(super) fn environment(service: &Service) -> Vec<(&'static str, String)> {
    let Program::Postgres(postgres) = &service.program;
    vec![
        ("FREEHOLD_SERVICE", service.name.clone()),
        ("FREEHOLD_MAJOR", postgres.major.to_string()),
        ("FREEHOLD_ADMIN_ROLE", postgres.admin_role.clone()),
    ]
}

/// Of the container that runs *prepare*, in addition. The instance is not in [`environment`]: what runs already need not be
/// restarted for it.
pub(super) fn prepare_environment(service: &Service, instance: &str) -> Vec<(&'static str, String)> {
    let Program::Postgres(postgres) = &service.program;
    let mut all = environment(service);
    all.push((INSTANCE, instance.into()));
    all.push(("FREEHOLD_INITIALISE", if postgres.initialise { "yes" } else { "no" }.into()));
    if let Storage::Directory { mode, .. } = &service.storage {
        all.push(("FREEHOLD_PARENT", PARENT.into()));
        all.push(("FREEHOLD_MODE", format!("{mode:04o}")));
    }
    all
}

/// Of the container that runs *purge*.
pub(super) fn purge_environment(name: &str, instance: &str, is_directory: bool) -> Vec<(&'static str, String)> {
    let mut all = vec![("FREEHOLD_SERVICE", name.to_owned()), (INSTANCE, instance.to_owned())];
    if is_directory {
        all.push(("FREEHOLD_PARENT", PARENT.into()));
    }
    all
}

pub(super) fn pairs(environment: Vec<(&'static str, String)>) -> Vec<String> {
    environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Of everything a running server would have to be restarted for. Neither the generation is in it nor `initialise`, nor
/// how the image is fetched.
pub(super) fn definition(service: &Service, own: &str) -> String {
    let Program::Postgres(postgres) = &service.program;
    let mut parts = vec![
        format!("{:?}", environment(service)),
        service.image_reference().to_owned(),
        format!("{:?} {:?} {:?}", service.limits, service.storage, service.network),
        format!("{:?} {:?}", service.constraints, service.labels),
        format!("{:?} {:?}", service.restart, service.stop_grace),
        own.to_owned(),
    ];
    parts.extend(files(postgres).iter().map(File::digest));
    hex(&parts.iter().map(String::as_str).collect::<Vec<_>>(), 16)
}

/// A quarter of the memory: what parallel queries share. It counts as the container's memory.
pub(super) fn shm_bytes(service: &Service) -> u64 {
    service.limits.memory_bytes.map_or(1 << 30, |bytes| (bytes / 4).max(64 << 20))
}

/// What no engine could do with.
pub(super) fn check(service: &Service) -> Result<(), PlatformError> {
    let bad = |message: String| Err(PlatformError::new(PlatformErrorKind::Unsupported, message));
    let name = &service.name;
    let first_and_last = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !first_and_last || name.len() > 50 || !name.chars().all(inner) {
        return bad(format!(
            "{name:?} is no name for a service: expected a lowercase letter, then at most 49 lowercase letters, digits and dashes, no dash last"
        ));
    }
    let Program::Postgres(postgres) = &service.program;
    if !(15..=18).contains(&postgres.major) {
        return bad(format!("PostgreSQL {} is not supported: use 15, 16, 17 or 18", postgres.major));
    }
    let role_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let role = &postgres.admin_role;
    if !role.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') || !role.chars().all(role_inner) {
        return bad(format!("{role:?} is no name for the admin: expected lowercase letters, digits and underscores"));
    }
    if let Some(name) = postgres.settings.keys().find(|name| !is_setting(name)) {
        return bad(format!("{name:?} is not the name of a setting"));
    }
    if service.image_reference().is_empty() {
        return bad(format!("{name} has no image: name one made from deploy/images/postgres"));
    }
    if let Storage::Directory { path, mode } = &service.storage
        && (!path.is_absolute() || *mode & !0o777 != 0 || mode & 0o700 != 0o700)
    {
        return bad(format!(
            "storage {} with mode {mode:o}: expected an absolute path, and a mode of at least 0700",
            path.display()
        ));
    }
    match &service.network {
        Network::Port { port: 0, .. } => return bad(format!("{name} has no port")),
        Network::Overlay { network } if network.is_empty() => return bad(format!("{name} has no network")),
        Network::Port { .. } | Network::Overlay { .. } => {}
    }
    let limits = &service.limits;
    let above = |reserved: Option<f64>, limit: Option<f64>| reserved.zip(limit).is_some_and(|(r, l)| r > l);
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    if above(limits.reserved_cpus, limits.cpus)
        || above(bytes(limits.reserved_memory_bytes), bytes(limits.memory_bytes))
    {
        return bad(format!("{name} reserves more than its limit"));
    }
    Ok(())
}

fn is_setting(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(inner)
}

/// The image's exit codes, and the kernel's.
pub(super) fn kind_of_exit(code: i64) -> PlatformErrorKind {
    match code {
        64 => PlatformErrorKind::Unsupported,
        65 | 66 | 73 => PlatformErrorKind::Storage,
        FOREIGN => PlatformErrorKind::Conflict,
        _ => PlatformErrorKind::Other,
    }
}

/// A sentence for people, with the code that programs look for.
pub(super) fn reason(kind: PlatformErrorKind, text: &str) -> String {
    format!("{}: {}", PlatformError::new(kind, "").code(), text.trim())
}

/// Of a log the lines that say why it ended.
pub(super) fn gist(log: &str) -> String {
    let telling = |line: &&str| {
        ["FATAL:", "PANIC:", "freehold-postgres:", "ERROR:", "HINT:", "initdb: error"].iter().any(|w| line.contains(w))
    };
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut told: Vec<&str> = lines.iter().copied().filter(telling).collect();
    if told.is_empty() {
        told = lines;
    }
    told.dedup();
    told.split_off(told.len().saturating_sub(3)).join("; ")
}

pub(super) fn hex(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    crate::hex(&hash.finalize())[..digits].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::platform::{Image, Limits, Restart};

    pub(crate) fn service() -> Service {
        Service {
            name: "shared-1".into(),
            generation: 1,
            program: Program::Postgres(Postgres {
                major: 17,
                settings: BTreeMap::from([("work_mem".into(), "4MB".into()), ("app.note".into(), "it's a \\".into())]),
                hba: "hostssl all all all scram-sha-256\n".into(),
                admin_role: "freehold".into(),
                admin_verifier: "SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5".into(),
                certificate_pem: "certificate".into(),
                certificate_key: "key".into(),
                initialise: true,
            }),
            image: Some(Image { reference: "localhost/postgres:17".into(), credentials: None }),
            limits: Limits::default(),
            storage: Storage::Volume,
            network: Network::Port { host: "127.0.0.1".into(), port: 5433 },
            constraints: Vec::new(),
            labels: BTreeMap::new(),
            restart: Restart::default(),
            stop_grace: Duration::from_secs(120),
        }
    }

    #[test]
    fn container_is_restarted_for_what_it_runs_with_and_for_nothing_else() {
        let first = definition(&service(), "");
        let mut same = service();
        same.generation = 9;
        let Program::Postgres(postgres) = &mut same.program;
        postgres.initialise = false;
        assert_eq!(definition(&same, ""), first);
        let changes: [fn(&mut Service); 6] = [
            |s| s.limits.memory_bytes = Some(1 << 30),
            |s| s.image = Some(Image { reference: "localhost/postgres:18".into(), credentials: None }),
            |s| s.storage = Storage::Directory { path: PathBuf::from("/srv"), mode: 0o700 },
            |s| s.network = Network::Overlay { network: "apps".into() },
            |s| {
                let Program::Postgres(postgres) = &mut s.program;
                postgres.certificate_key = "another".into();
            },
            |s| {
                let Program::Postgres(postgres) = &mut s.program;
                postgres.settings.insert("work_mem".into(), "5MB".into());
            },
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = service();
            change(&mut other);
            assert_ne!(definition(&other, ""), first, "change {at}");
        }
    }

    #[test]
    fn container_settings_are_quoted_and_no_secret_is_in_the_environment() {
        let service = service();
        let Program::Postgres(postgres) = &service.program;
        let files = files(postgres);
        assert_eq!(files[0].text.expose_secret(), "app.note = 'it''s a \\\\'\nwork_mem = '4MB'\n");
        let environment = pairs(prepare_environment(&service, "one")).join(" ");
        for file in files.iter().filter(|file| file.is_secret) {
            assert!(!environment.contains(file.text.expose_secret()), "{}", file.name);
        }
    }

    #[test]
    fn container_of_what_cannot_be_is_refused_in_words() {
        type Change = fn(&mut Service);
        let changes: [(&str, Change); 9] = [
            ("no name", |s| s.name = "Shared".into()),
            ("no name", |s| s.name = "a-".into()),
            ("no name", |s| s.name = "x".repeat(51)),
            ("no image", |s| s.image = None),
            ("absolute", |s| s.storage = Storage::Directory { path: PathBuf::from("srv"), mode: 0o700 }),
            ("at least 0700", |s| s.storage = Storage::Directory { path: PathBuf::from("/srv"), mode: 0o070 }),
            ("no port", |s| s.network = Network::Port { host: "h".into(), port: 0 }),
            ("reserves more", |s| {
                s.limits = Limits { cpus: Some(1.0), reserved_cpus: Some(2.0), ..Limits::default() };
            }),
            ("not the name of a setting", |s| {
                let Program::Postgres(postgres) = &mut s.program;
                postgres.settings.insert("a = 'b'\nssl".into(), "off".into());
            }),
        ];
        check(&service()).unwrap();
        for (words, change) in changes {
            let mut bad = service();
            change(&mut bad);
            let error = check(&bad).unwrap_err();
            assert_eq!(error.kind, PlatformErrorKind::Unsupported);
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn container_gist_is_what_tells() {
        let log =
            "2026 LOG:  starting\n2026 FATAL:  could not access file \"x\"\n2026 LOG:  database system is shut down\n";
        assert_eq!(gist(log), "2026 FATAL:  could not access file \"x\"");
        assert_eq!(gist("one\ntwo\n"), "one; two");
        assert_eq!(gist(""), "");
    }
}
