//! `template.build`: makes the database that a template's version is copied from, on one server.
//!
//! build → freeze. Built under a working name, vacuumed, closed, renamed, and never altered: a new version is a new
//! database (rule 5). The admin owns it; its objects belong to a role of its own, which copies reassign.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_api::template::{Migrate, Template};
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{Admin, CreateDatabase, Dsn, Limits, OwnDatabase, Roles, Session};
use freehold_durable::{Cx, Failure, New, Operation, OperationRow, Outcome, Resolution, StartError, Started, steps};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, BuildRow};
use crate::operation::answer::failure_of;
use crate::plane::Core;
use crate::server::store::ServerRow;
use crate::server::{forget, hands};

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// From nothing to a migrated database under its working name. Begins from nothing whenever it runs.
        Build { server: String, name: String, version: String },
        /// Closed to everybody, under its final name.
        Freeze { server: String, name: String, version: String, missing: Vec<String> },
        /// Takes back whatever was made.
        Unbuild { server: String, name: String, version: String },
    }
}

pub struct Build {
    pub core: Core,
}

/// Declares the build and starts it in the caller's transaction. None: somebody else has.
pub async fn start(
    engine: &freehold_durable::Engine,
    tx: &mut PgConnection,
    server: &str,
    template: &Template,
) -> Result<Option<Started>, sqlx::Error> {
    let row = names(server, template);
    if !store::declare_build(tx, &row).await? {
        return Ok(None);
    }
    let step = Step::Build { server: row.server_id.clone(), name: row.name.clone(), version: row.version.clone() };
    let subject = Some(format!("template:{server}:{}:{}", row.name, &row.version[..12]));
    let new = New { subject, deadline: Some(Duration::from_secs(3600)), ..New::of("template.build", step) };
    match engine.start::<Build>(tx, new).await {
        Ok(started) => Ok(Some(started)),
        Err(StartError::Busy { .. }) => Ok(None),
        Err(StartError::Store(error)) => Err(error),
    }
}

fn names(server: &str, template: &Template) -> BuildRow {
    let mut hasher = Sha256::new();
    hasher.update(template.name.as_str());
    hasher.update([0]);
    hasher.update(&template.version);
    let digest = freehold_drivers::hex(&hasher.finalize()[..8]);
    BuildRow {
        server_id: server.to_owned(),
        name: template.name.to_string(),
        version: template.version.clone(),
        database: format!("fh_t_{digest}"),
        owner: format!("fh_t_{digest}"),
        state: "building".into(),
        error: None,
        failures: 0,
        resting: false,
        missing: Vec::new(),
    }
}

fn working(row: &BuildRow) -> String {
    format!("{}_w", row.database)
}

fn roles(row: &BuildRow) -> Roles {
    Roles {
        owner: row.owner.clone(),
        login: format!("{}_b", row.owner),
        maintenance: format!("{}_bm", row.owner),
        extra: Vec::new(),
    }
}

#[async_trait]
impl Operation for Build {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "template.build"
    }
    fn concurrency(&self) -> usize {
        2
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        match step {
            Step::Build { server, name, version } => {
                let (row, template) = self.find(&server, &name, &version).await?;
                let missing = self.build(cx, &row, &template).await?;
                Ok(Outcome::step(Step::Freeze { server, name, version, missing }))
            }
            Step::Freeze { server, name, version, missing } => {
                let (row, _) = self.find(&server, &name, &version).await?;
                let server = hands::server(&self.core, &server).await?;
                let admin = hands::admin(&self.core, cx, &server, None).await?;
                admin.freeze_template(&working(&row), &row.database).await.map_err(hands::failure)?;
                cx.fault("frozen")?;
                let roles = roles(&row);
                forget::drop_roles(&self.core, cx, &server, &admin, &[&roles.login, &roles.maintenance]).await?;
                let engine = cx.engine();
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::build_ready(tx, &row, &missing).await?;
                        // Stock may be copied from it now.
                        Ok(engine.wake_in(tx, "stock").await?)
                    })
                }))
            }
            Step::Unbuild { server, name, version } => {
                let (row, _) = self.find(&server, &name, &version).await?;
                let server = hands::server(&self.core, &server).await?;
                let admin = hands::admin(&self.core, cx, &server, None).await?;
                discard(&self.core, cx, &server, &admin, &row).await?;
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed.clone() {
            Step::Build { server, name, version }
            | Step::Freeze { server, name, version, .. }
            | Step::Unbuild { server, name, version } => Some(Step::Unbuild { server, name, version }),
        }
    }

    async fn resolved(&self, tx: &mut PgConnection, step: &Step, _: Uuid, as_: Resolution) -> Result<(), sqlx::Error> {
        let (Step::Build { server, name, version }
        | Step::Freeze { server, name, version, .. }
        | Step::Unbuild { server, name, version }) = step;
        let Some(row) = store::find_build(&mut *tx, server, name, version).await? else { return Ok(()) };
        match (as_, step) {
            (Resolution::Succeeded, Step::Freeze { missing, .. }) => store::build_ready(tx, &row, missing).await,
            _ => store::build_failed(tx, &row, "resolved by hand").await,
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let field = |field: &str| operation.step[field].as_str().unwrap_or_default().to_owned();
        let (code, message) = failure_of(operation);
        if let Some(row) = store::find_build(&mut *tx, &field("server"), &field("name"), &field("version")).await? {
            store::build_failed(tx, &row, &format!("{code}: {message}")).await?;
        }
        Ok(())
    }
}

/// Removes a build in any of its stages.
pub async fn discard(core: &Core, cx: &Cx, server: &ServerRow, admin: &Admin, row: &BuildRow) -> Result<(), Failure> {
    admin.drop_database(&working(row)).await.map_err(hands::failure)?;
    admin.drop_database(&row.database).await.map_err(hands::failure)?;
    cx.fault("database_dropped")?;
    let roles = roles(row);
    forget::drop_roles(core, cx, server, admin, &[&roles.login, &roles.maintenance, &roles.owner]).await
}

impl Build {
    async fn find(&self, server: &str, name: &str, version: &str) -> Result<(BuildRow, Arc<Template>), Failure> {
        let gone = || Failure::permanent("template_missing", format!("template {name} {version} is not in the store"));
        let row = store::find_build(&self.core.store, server, name, version).await?.ok_or_else(gone)?;
        let template = self.core.catalog.version(&self.core.store, name, version).await?.ok_or_else(gone)?;
        Ok((row, template))
    }

    /// Answers the extensions that were asked for, are not required, and are not there.
    async fn build(&self, cx: &Cx, row: &BuildRow, template: &Template) -> Result<Vec<String>, Failure> {
        let core = &self.core;
        let server = hands::server(core, &row.server_id).await?;
        let admin = hands::admin(core, cx, &server, None).await?;
        let database = working(row);
        admin.drop_database(&database).await.map_err(hands::failure)?;
        cx.fault("dropped")?;
        let roles = roles(row);
        let password = Password::random(32);
        let verifier = scram_verifier(&password);
        admin
            .ensure_roles(&roles, &verifier, &verifier, &Limits { connection_limit: -1, ..Limits::default() })
            .await
            .map_err(hands::failure)?;
        cx.fault("roles")?;
        let options = CreateDatabase { locale: template.manifest.locale.as_deref(), ..CreateDatabase::default() };
        admin.ensure_database(&database, &options).await.map_err(hands::failure)?;
        cx.fault("database")?;
        let inside = hands::admin(core, cx, &server, Some(&database)).await?;
        inside.own_database(&roles, &OwnDatabase::default()).await.map_err(hands::failure)?;
        let mut missing = Vec::new();
        for extension in &template.manifest.extensions {
            match inside.ensure_extension(&extension.name, extension.schema.as_deref()).await {
                Ok(()) => {}
                // What passes by itself says nothing about the extension.
                Err(error) if error.is_transient() => return Err(hands::failure(error)),
                Err(_) if !extension.required => missing.push(extension.name.clone()),
                Err(error) => {
                    let why = hands::chain(&error);
                    let message = format!(
                        "extension {} is required by the template and cannot be made on server {}: {why}",
                        extension.name, server.id
                    );
                    return Err(Failure::permanent("extension_missing", message));
                }
            }
        }
        cx.fault("extensions")?;
        drop(inside);
        let dsn = hands::dsn_for(&core.sealer, &server, &database, &roles.login, password)?;
        let session = Session::connect(&dsn, None, &cx.application_name(), &[]).await.map_err(hands::failure)?;
        for (index, (path, sql)) in template.migrations.iter().enumerate() {
            cx.still_mine().await?;
            session.execute_script(sql).await.map_err(|error| in_file(path, hands::failure(error)))?;
            cx.progress(index as u64 + 1, template.migrations.len() as u64, "migrations").await?;
        }
        drop(session);
        if let Some(migrate) = &template.manifest.migrate {
            cx.still_mine().await?;
            run_command(core, migrate, template, &dsn).await?;
        }
        cx.fault("migrated")?;
        let inside = hands::admin(core, cx, &server, Some(&database)).await?;
        inside.vacuum_freeze().await.map_err(hands::failure)?;
        Ok(missing)
    }
}

fn in_file(path: &str, mut failure: Failure) -> Failure {
    failure.message = format!("{path}: {}", failure.message);
    failure
}

/// What a foreign tool gets of this process's environment.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LD_LIBRARY_PATH", "SSL_CERT_FILE"];

/// Ends a tool with whatever it started, however its step ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// Runs a foreign tool in a directory that holds the template's files. No shell; the connection is in its environment only.
async fn run_command(core: &Core, migrate: &Migrate, template: &Template, dsn: &Dsn) -> Result<(), Failure> {
    if !core.settings.templates.allow_commands {
        return Err(Failure::permanent("commands_not_allowed", "setting templates.allow_commands is off"));
    }
    let broken = |what: &str, error: std::io::Error| Failure::transient("migrate_command", format!("{what}: {error}"));
    let directory = tempfile::tempdir().map_err(|error| broken("make a directory", error))?;
    for (path, text) in &template.files {
        let path = directory.path().join(Path::new(path));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| broken("make a directory", error))?;
        }
        std::fs::write(&path, text).map_err(|error| broken("write a file", error))?;
    }
    let (program, arguments) =
        migrate.command.split_first().ok_or_else(|| Failure::permanent("migrate_command", "the command is empty"))?;
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(directory.path())
        // It needs the tenants' database, not what this plane knows.
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| INHERITED.iter().any(|kept| name == kept)))
        .process_group(0)
        .env("DATABASE_URL", dsn.expose_url().as_str())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::permanent("migrate_command", format!("start {program:?}: {error}")))?;
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let limit = Duration::from_secs(u64::from(migrate.timeout_seconds.unwrap_or(600)));
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    let output = output.map_err(|_| {
        Failure::permanent("migrate_command", format!("{program:?} took longer than {} s", limit.as_secs()))
    })?;
    let output = output.map_err(|error| broken("wait for the command", error))?;
    if output.status.success() {
        return Ok(());
    }
    // The end of what it said, where tools put the reason; it knows the password and may have printed it.
    let said = [output.stderr, output.stdout].concat();
    let mut said = String::from_utf8_lossy(&said).into_owned();
    if let Some(password) = dsn.password() {
        said = said.replace(password.expose(), "•••");
    }
    let tail: String = said.chars().rev().take(1500).collect::<Vec<_>>().into_iter().rev().collect();
    Err(Failure::permanent("migrate_command", format!("{program:?} ended with {}: {}", output.status, tail.trim())))
}
