//! The templates that come with Freehold. They are offered from the first start on, and stocked from their first use.

use freehold_api::template::{Files, Template};
use include_dir::{Dir, include_dir};
use sqlx::PgPool;

use super::store;
use crate::settings::Settings;

static SHIPPED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../templates");

/// Puts the shipped templates into the store. One that somebody replaced under the same name is left alone.
pub async fn ensure(pool: &PgPool, settings: &Settings) -> sqlx::Result<()> {
    for template in shipped() {
        let mut tx = pool.begin().await?;
        let name = template.name.as_str();
        let of_edge =
            settings.edges.iter().any(|edge| edge.template.as_ref().map_or(edge.kind.as_str(), |t| t.as_str()) == name);
        let stocked = settings.tenants.default_template.as_str() == name
            || of_edge
            || settings.stock.templates.keys().any(|key| key.as_str() == name);
        if !store::is_owned(&mut tx, name).await? {
            store::put(&mut tx, &template, stocked, true).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

pub fn shipped() -> Vec<Template> {
    let parsed = SHIPPED.dirs().map(|dir| {
        let name = dir.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut files = Files::new();
        collect(dir, dir, &mut files);
        Template::parse(name.parse().expect("a shipped template has a slug for a name"), files)
            .expect("shipped templates are valid: a test parses them")
    });
    parsed.collect()
}

fn collect(root: &Dir<'_>, dir: &Dir<'_>, files: &mut Files) {
    for file in dir.files() {
        let path = file.path().strip_prefix(root.path()).unwrap_or(file.path());
        files.insert(path.to_string_lossy().into_owned(), file.contents_utf8().unwrap_or_default().to_owned());
    }
    for dir in dir.dirs() {
        collect(root, dir, files);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn shipped_templates_are_valid_and_all_there() {
        let mut names: Vec<_> = super::shipped().into_iter().map(|template| template.name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["default", "dotmac", "railzway", "saasodoo", "tansucloud"]);
    }
}
