//! A template: a directory with `template.toml`, ordered plain-SQL `migrations/`, and perhaps `claim.sql`.
//!
//! Parsing, checking, versioning and naming are here and pure, so that `freehold template check` and the
//! control plane judge alike. Absent: reading directories (the command line does) and running SQL (the plane does).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{TemplateName, TenantId};
use crate::tenant::Labels;

mod check;
mod naming;
mod scan;
#[cfg(test)]
mod tests;

/// Path within the directory → its text.
pub type Files = BTreeMap<String, String>;

/// `template.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub naming: Naming,
    /// Who owns the database: `admin` (the default: the tenant cannot open it to others), or `tenant`.
    #[serde(default)]
    pub database_owner: DatabaseOwner,
    /// The oldest major version of PostgreSQL that it works on; servers of older ones are not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 15, maximum = 99)]
    pub minimum_postgres: Option<u16>,
    /// Collation and character type of the database; the server's (`C.UTF-8` where Freehold made it) when absent.
    #[serde(default)]
    pub locale: Option<String>,
    #[serde(default, rename = "extension")]
    pub extensions: Vec<Extension>,
    /// `ALTER DATABASE … SET name = value` on every database made from it.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Roles besides the owner and the login: NOLOGIN, named `{owner}_{name}`, for the login to `SET ROLE` to.
    #[serde(default, rename = "role")]
    pub roles: Vec<ExtraRole>,
    #[serde(default)]
    pub migrate: Option<Migrate>,
    #[serde(default)]
    pub password: PasswordRule,
}

/// How the database and the login are named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Naming {
    /// `opaque` (`fh_` and 16 characters: no rename at the claim, nothing about customers in catalogs), or `pattern`.
    pub kind: NamingKind,
    /// With `{tenant}`, `{customer}`, `{instance}` (the labels of these names), each perhaps cut: `{customer:16}`.
    #[serde(default)]
    pub database: Option<String>,
    /// The same, and `{database}`.
    #[serde(default)]
    pub login: Option<String>,
    /// What becomes of characters that are not `[a-z0-9]` in what a placeholder stands for. `{tenant:8}` cuts after it.
    #[serde(default)]
    pub normalise: Normalise,
    /// What a rotation of the credential does about the login's name. The template's current version says so for all.
    #[serde(default, skip_serializing_if = "Rotate::is_second")]
    pub rotate: Rotate,
}

impl Default for Naming {
    fn default() -> Self {
        let (kind, normalise) = (NamingKind::Opaque, Normalise::Keep);
        Self { kind, database: None, login: None, normalise, rotate: Rotate::Second }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rotate {
    /// A second login beside the first, and both in force for a while: of a name by pattern `{login}_2`, then `{login}` again.
    #[default]
    Second,
    /// The login keeps its name and gets another password: the old one is refused from one moment to the next.
    Replace,
}

impl Rotate {
    fn is_second(&self) -> bool {
        *self == Self::Second
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamingKind {
    Opaque,
    Pattern,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Stay as they are (the name is quoted wherever it is used).
    #[default]
    Keep,
    /// Each becomes `_`, after ASCII capitals became small.
    Underscore,
    /// Each is left out, after ASCII capitals became small.
    Strip,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseOwner {
    #[default]
    Admin,
    Tenant,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    pub name: String,
    /// A server that lacks a required one is not used; one that is not required is recorded as missing.
    #[serde(default = "yes")]
    pub required: bool,
    /// The schema to install it in; `public` when absent.
    #[serde(default)]
    pub schema: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraRole {
    pub name: String,
    pub grants: Grants,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grants {
    /// SELECT on everything in `public`, now and later.
    Read,
    /// SELECT, INSERT, UPDATE, DELETE.
    Write,
}

/// A foreign tool (EF Core, Alembic, Prisma) that makes the schema, once per version, with `DATABASE_URL`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// Program and arguments; no shell. Runs in a directory that holds the template's files, after `migrations/`.
    pub command: Vec<String>,
    /// Seconds; 600 when absent.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
}

/// How generated passwords look. The alphabet is always `[A-Za-z0-9]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRule {
    #[schema(minimum = 16, maximum = 128)]
    pub length: usize,
}

impl Default for PasswordRule {
    fn default() -> Self {
        Self { length: 32 }
    }
}

fn yes() -> bool {
    true
}

/// A template that was read and found valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pub name: TemplateName,
    /// SHA-256 over its files, hexadecimal.
    pub version: String,
    pub manifest: Manifest,
    /// `migrations/*.sql` in order: path and text.
    pub migrations: Vec<(String, String)>,
    /// `claim.sql`.
    pub claim: Option<String>,
    pub files: Files,
}

/// The database's and the login's names for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub database: String,
    pub login: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTemplate {
    pub name: TemplateName,
    /// Path within the template's directory → its text: `template.toml`, `migrations/0001_init.sql`, `claim.sql`.
    pub files: Files,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateInfo {
    pub name: TemplateName,
    /// The current version: new stock is made from it.
    pub version: String,
    pub manifest: Manifest,
    pub migrations: Vec<String>,
    pub has_claim: bool,
    /// Tenants whose database was made from any version of it.
    pub tenants: u64,
    pub created_at: Timestamp,
}

/// What is wrong with a template: every fault that was found, each with its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template is not valid: {}", .faults.join("; "))]
pub struct BadTemplate {
    pub faults: Vec<String>,
}

/// Why a tenant cannot have the name that the template's pattern gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error(
        "the template names databases after the label {label:?}, which the tenant does not have; give it with the create"
    )]
    LabelMissing { label: String },
    #[error("the name {name:?} has {bytes} bytes; PostgreSQL allows 63 and names are never cut")]
    TooLong { name: String, bytes: usize },
    #[error("{name:?} cannot be a name: {why}")]
    Unusable { name: String, why: &'static str },
}

impl Template {
    /// Reads and checks a template; lists all that is wrong with it, not the first.
    pub fn parse(name: TemplateName, files: Files) -> Result<Self, BadTemplate> {
        check::parse(name, files)
    }

    /// None where naming is opaque. Names are refused, never cut, where the pattern does not say so.
    pub fn names_for(&self, tenant: &TenantId, labels: &Labels) -> Result<Option<Names>, BadName> {
        naming::names_for(&self.manifest.naming, tenant, labels)
    }
}
