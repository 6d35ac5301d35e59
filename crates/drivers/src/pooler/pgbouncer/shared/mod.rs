//! A PgBouncer that somebody else runs: Freehold's entries are in blocks of their `pgbouncer.ini` and their list of users.
//!
//! Their access rules and their settings are theirs, so less can be proven than of one of Freehold's own. Read back are the
//! entries, one by one, and that nothing is served that neither side wrote. That the list of users was read is proven by the
//! check login, the block's last: it asks for a database that there is none of. Versions from 1.18 on say so only to
//! somebody whose password was right.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::text::{Ini, Ours, Texts};
use super::super::block::Divided;
use super::super::shared::{Given, Passwords, SharedPooler, divided, may_replace, sort, took_back};
use super::super::theirs::{Readers, TheirFile};
use super::super::{Applied, ConsoleLogin, Entry, Pooler, PoolerError, PoolerErrorKind, Served};
use super::console::{Console, Row};
use super::quote;
use super::render::{check_entries, check_name, entry_line, refused};
use super::verify::{differences, not_verified};
use super::version::{Features, Release};
use super::{PgBouncer, PgBouncerOptions};
use crate::secrets::Password;
use crate::server::sql::Dsn;

#[derive(Debug, Clone)]
pub struct SharedOptions {
    /// What Freehold calls it: the mark of its blocks.
    pub pooler: String,
    /// `pgbouncer.ini`.
    pub ini: PathBuf,
    /// What its `auth_file` is, as this machine reaches it.
    pub users: PathBuf,
    /// The console's administrator, with the password.
    pub console: Dsn,
    pub check: ConsoleLogin,
    pub check_password: Password,
    /// What it was when it was last seen, for while it does not run.
    pub release: Option<Release>,
    pub command_limit: Duration,
    pub pace: Duration,
}

pub struct SharedPgBouncer {
    options: SharedOptions,
    ini: TheirFile,
    users: TheirFile,
    /// For what it does alike.
    plain: PgBouncer,
    release: Mutex<Option<Release>>,
    /// It has entries by this value.
    has_entries: AtomicBool,
}

/// There is none of this name.
const NOWHERE: &str = "freehold_nowhere";

/// What decides whether it serves what it should.
struct Wanted<'a> {
    generation: u64,
    entries: &'a [&'a Entry],
    /// Names that are theirs. None: any may be.
    theirs: Option<&'a BTreeSet<String>>,
    /// Any name is a database: nobody is told that there is none.
    is_open: bool,
    features: Features,
}

impl SharedPgBouncer {
    pub fn new(options: SharedOptions) -> Self {
        let directory = options.ini.parent().map(PathBuf::from).unwrap_or_default();
        let mut plain = PgBouncerOptions::new(directory, options.console.clone());
        (plain.command_limit, plain.pace) = (options.command_limit, options.pace);
        Self {
            ini: TheirFile::new(&options.ini),
            users: TheirFile::new(&options.users),
            plain: PgBouncer::new(plain),
            release: Mutex::new(options.release),
            has_entries: AtomicBool::new(false),
            options,
        }
    }

    fn read(&self) -> Result<Texts, PoolerError> {
        Ok(Texts { ini: self.ini.read()?, users: self.users.read()? })
    }

    /// The list of users first: an entry without its login is of no use.
    fn write(&self, before: &Texts, after: &Texts) -> Result<bool, PoolerError> {
        if before.users != after.users {
            self.users.replace(&before.users, &after.users, Readers::AsBefore)?;
        }
        if before.ini != after.ini
            && let Err(error) = self.ini.replace(&before.ini, &after.ini, Readers::AsBefore)
        {
            let back = match before.users == after.users {
                true => Ok(()),
                false => self.users.replace(&after.users, &before.users, Readers::AsBefore),
            };
            return match back {
                Ok(()) => Err(error),
                Err(_) => Err(took_back(error, back)),
            };
        }
        Ok(before != after)
    }

    /// None: it does not run.
    async fn open(&self) -> Result<Result<Console, PoolerError>, PoolerError> {
        match Console::connect(&self.options.console, self.options.command_limit).await {
            Err(error) if error.kind == PoolerErrorKind::Unreachable => Ok(Err(error)),
            Err(error) => Err(error),
            Ok(console) => {
                let release = console.release().await?;
                *self.release.lock().unwrap_or_else(PoisonError::into_inner) = Some(release);
                Ok(Ok(console))
            }
        }
    }

    /// Of what was seen last; else what the oldest can.
    fn features(&self) -> Features {
        let seen = *self.release.lock().unwrap_or_else(PoisonError::into_inner);
        seen.unwrap_or(Release::new(1, 18, 0)).features()
    }

    /// Whoever sent it an old list, or has its own ideas of who may enter, finds out here.
    async fn verify(&self, console: &Console, wanted: &Wanted<'_>) -> Result<(), PoolerError> {
        self.databases_in_force(console, wanted).await?;
        if wanted.entries.is_empty() {
            return Ok(());
        }
        match wanted.is_open {
            true => self.users_are_known(console, wanted).await,
            false => self.check_login(wanted.generation).await,
        }
    }

    async fn databases_in_force(&self, console: &Console, wanted: &Wanted<'_>) -> Result<(), PoolerError> {
        let rows = console.command("SHOW DATABASES").await?;
        let mut found: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.text("name"), row)).collect();
        found.remove("pgbouncer");
        let defaults = (wanted.features.default_mode(), 0);
        let mut wrong = Vec::new();
        for entry in wanted.entries {
            match found.remove(entry.name.as_str()) {
                None => wrong.push(format!("{} is not there", entry.name)),
                Some(row) => wrong.extend(differences(row, entry, defaults, wanted.features)),
            }
        }
        if let Some(theirs) = wanted.theirs {
            let strange = found.into_keys().filter(|name| !theirs.contains(*name));
            wrong.extend(strange.map(|name| format!("{name} is there and in none of its files")));
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => {
                let read = setting(console, "conffile").await?;
                let what =
                    format!("it serves other databases than {} says (it reads {read})", self.ini.path().display());
                Err(not_verified(&what, wrong))
            }
        }
    }

    async fn check_login(&self, generation: u64) -> Result<(), PoolerError> {
        let name = check_name(&self.options.check, generation);
        let dsn = self.options.console.with_user(&name, self.options.check_password.clone());
        let error = match Console::connect_to(&dsn, NOWHERE, self.options.command_limit).await {
            Ok(console) => {
                console.close().await;
                return Ok(());
            }
            Err(error) if error.kind == PoolerErrorKind::Missing => return Ok(()),
            Err(error) => error,
        };
        match error.kind {
            PoolerErrorKind::Denied => {
                let what = format!(
                    "a login that is in {} does not get in: its auth_file is another, a line of it cannot be read, or its access rules let nobody of it in",
                    self.users.path().display()
                );
                Err(not_verified(&what, vec![error.message]))
            }
            _ => Err(error),
        }
    }

    async fn users_are_known(&self, console: &Console, wanted: &Wanted<'_>) -> Result<(), PoolerError> {
        let rows = console.command("SHOW USERS").await?;
        let known: BTreeSet<&str> = rows.iter().map(|row| row.text("name")).collect();
        let check = check_name(&self.options.check, wanted.generation);
        let roles = wanted.entries.iter().flat_map(|entry| &entry.logins).map(|login| login.role.as_str());
        let unknown: Vec<String> =
            roles.chain([check.as_str()]).filter(|role| !known.contains(role)).map(str::to_owned).collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(not_verified(&format!("it did not read {}", self.users.path().display()), unknown)),
        }
    }

    /// At once: whoever is locked out by a broken list does not wait for a turn.
    async fn take_back(&self, console: &Console, before: &Texts, after: &Texts, error: PoolerError) -> PoolerError {
        let back = match self.write(after, before) {
            Ok(_) => console.command("RELOAD").await.map(drop),
            Err(error) => Err(error),
        };
        took_back(error, back)
    }
}

#[async_trait]
impl SharedPooler for SharedPgBouncer {
    fn running(&self) -> &dyn Pooler {
        &self.plain
    }

    async fn give(&self, generation: u64, served: &Served, _: &Passwords) -> Result<Given, PoolerError> {
        let opened = self.open().await?;
        if let Ok(console) = &opened {
            require_passwords(console).await?;
        }
        let mut turn = self.plain.pace.turn().await;
        let _lock = self.ini.lock().await?;
        let before = self.read()?;
        let (ini, users) = (divided(&self.ini, &before.ini, ';')?, divided(&self.users, &before.users, ';')?);
        may_replace(&self.ini, &ini, &self.options.pooler, generation)?;
        may_replace(&self.users, &users, &self.options.pooler, generation)?;
        self.plain.refuse_older_than(None, generation)?;

        text::check(&ini.theirs, &users.theirs).map_err(|why| {
            let (ini, users) = (self.ini.path().display(), self.users.path().display());
            PoolerError::new(PoolerErrorKind::Refused, format!("{ini}, {users}: {why} They are left as they are"))
        })?;
        let features = self.features();
        let theirs = Theirs::find(&ini, &users, opened.as_ref().ok()).await?;
        let (entries, withheld) = sort(&served.entries, |entry| theirs.why_not(entry, features));
        let ours = Ours {
            pooler: &self.options.pooler,
            generation,
            entries: &entries,
            check: &self.options.check,
            default_mode: features.default_mode(),
            features,
        };
        let after = text::texts(&ini, &users, &ours)?;
        // While Freehold runs nobody else takes its blocks out.
        let was_given = self.has_entries.load(Ordering::Relaxed) && !entries.is_empty();
        let edited = [(&self.ini, &ini), (&self.users, &users)];
        let edited = edited.iter().filter(|(_, found)| found.is_edited() || was_given && found.block.is_none());
        let repaired: BTreeSet<String> = edited.map(|(file, _)| file.name()).collect();
        let is_written = self.write(&before, &after)?;

        let console = opened.map_err(|error| {
            let message = format!("{}; the files are written, and count from its start", error.message);
            PoolerError { message, ..error }
        })?;
        let wanted = Wanted {
            generation,
            entries: &entries,
            theirs: (!theirs.ini.includes && !theirs.ini.is_open).then_some(&theirs.ini.databases),
            is_open: theirs.ini.is_open,
            features,
        };
        let mut reloads = 0;
        if is_written || self.verify(&console, &wanted).await.is_err() {
            turn.taken();
            reloads = 1;
            let reloaded = async {
                console.command("RELOAD").await?;
                self.verify(&console, &wanted).await
            };
            if let Err(error) = reloaded.await {
                let is_whole = is_written && !ini.is_edited() && !users.is_edited();
                return Err(match is_whole {
                    true => self.take_back(&console, &before, &after, error).await,
                    false => error,
                });
            }
        }
        console.close().await;
        self.plain.verified.fetch_max(generation, Ordering::Relaxed);
        self.has_entries.store(!entries.is_empty(), Ordering::Relaxed);
        let applied =
            Applied { generation, reloads, repaired, needs_restart: BTreeSet::new(), left_out: BTreeSet::new() };
        Ok(Given { applied, withheld })
    }

    fn written(&self) -> Result<Option<u64>, PoolerError> {
        let Texts { ini, users } = self.read()?;
        let newest = divided(&self.ini, &ini, ';')?.generation();
        Ok(newest.max(divided(&self.users, &users, ';')?.generation()))
    }
}

/// What is theirs.
struct Theirs {
    ini: Ini,
    users: BTreeSet<String>,
    /// Databases that are in a file which theirs includes.
    included: BTreeSet<String>,
}

impl Theirs {
    async fn find(ini: &Divided, users: &Divided, console: Option<&Console>) -> Result<Self, PoolerError> {
        let theirs = Ini::read(&ini.theirs);
        let mut included = BTreeSet::new();
        // With a wildcard, whatever was asked for is there.
        let may_tell = theirs.includes && !theirs.is_open && !ini.is_edited();
        if let (true, Some(console)) = (may_tell, console) {
            let ours = ini.block.as_ref().map(|block| Ini::read(&format!("[databases]\n{}", block.body)).databases);
            let rows = console.command("SHOW DATABASES").await?;
            included = rows.iter().map(|row| row.text("name").to_owned()).collect();
            for name in ours.iter().flatten() {
                included.remove(name);
            }
        }
        Ok(Self { ini: theirs, users: text::users(&users.theirs), included })
    }

    fn why_not(&self, entry: &Entry, features: Features) -> Option<String> {
        if self.ini.databases.contains(&entry.name) || self.included.contains(&entry.name) {
            return Some("its files have a database of this name that Freehold did not write".into());
        }
        if let Some(login) = entry.logins.iter().find(|login| self.users.contains(&login.role)) {
            return Some(format!("its list of users has a login {} that Freehold did not write", login.role));
        }
        let written = || -> Result<(), PoolerError> {
            check_entries(std::slice::from_ref(entry), &[])?;
            entry_line(entry, features.default_mode(), features).map_err(refused)?;
            quote::identifiers("role", entry.logins.iter().map(|login| login.role.as_str())).map_err(refused)?;
            Ok(())
        };
        written().err().map(|error| error.message)
    }
}

/// Where anybody gets in, or passwords are asked from somebody else, a list with verifiers protects nobody.
async fn require_passwords(console: &Console) -> Result<(), PoolerError> {
    let found = setting(console, "auth_type").await?;
    match found.as_str() {
        "scram-sha-256" | "md5" | "hba" => Ok(()),
        _ => Err(PoolerError::new(
            PoolerErrorKind::Refused,
            format!(
                "its auth_type is {found:?}, which does not ask tenants for the passwords in its list of users: expected \
                 scram-sha-256, md5 or hba; nothing was changed"
            ),
        )),
    }
}

async fn setting(console: &Console, name: &str) -> Result<String, PoolerError> {
    let rows = console.command("SHOW CONFIG").await?;
    Ok(rows.iter().find(|row| row.text("key") == name).map_or("", |row| row.text("value")).to_owned())
}
