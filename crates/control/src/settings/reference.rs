//! `docs/settings.md`: every setting, from the types that read it.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::keys::{self, Default, Key};
use super::{names, schema};

const HEAD: &str = "\
# Settings

<!-- Made by `freehold settings reference`; a test compares. Change the comments in crates/control/src/settings instead. -->

A TOML file (`--settings FILE`, `FREEHOLD_SETTINGS`), and above it the environment: `FREEHOLD__STORE__URL` is `store.url`. Lists of
texts are separated by commas there. `[[plan]]`, `[[server_pool]]` and `[[edge]]` may be repeated, and stand in the file alone. A secret
may be in a file of its own: `store.url_file`, or `FREEHOLD__STORE__URL_FILE`, is where `store.url` is, without the end of its last
line. What is said of null holds for what is left out. For editors there is a [JSON schema](settings.schema.json).
";

pub fn page() -> String {
    let schema = schema::plain();
    let mut page = HEAD.to_owned();
    let keys = keys::all();
    let (top, in_tables): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| !key.name.contains('.'));
    page.push_str("\n## Without a table\n\n");
    table(&mut page, &top);
    let mut sections: Vec<&str> = Vec::new();
    for key in &in_tables {
        let section = section(&key.name);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for name in sections {
        let of: Vec<&Key> = in_tables.iter().copied().filter(|key| section(&key.name) == name).collect();
        let about = name.split('.').fold(&schema, |schema, name| &schema["properties"][name]);
        let brackets = if about.get("items").is_some() { format!("[[{name}]]") } else { format!("[{name}]") };
        let about = about["description"].as_str().unwrap_or_default();
        let _ = write!(page, "\n## {name}\n\n`{brackets}`: {}\n\n", first_lower(about));
        table(&mut page, &of);
    }
    page.push_str(NAMES);
    for (name, became) in names::rows() {
        let _ = writeln!(page, "| `{name}` | {became} |");
    }
    page
}

const NAMES: &str = "
## Names of other platforms

`[compat]` takes names that other platforms gave their settings: in the file (`[compat]` with `DB_HOST = \"…\"`), or with
`compat.variables = true` from the environment. The file's own settings and `FREEHOLD__…` go above them. What each became is told
at every start and by `freehold check settings`.

| name | becomes |
|---|---|
";

/// The longest table of which more than this is said: `platform.docker` of `platform.docker.host`, `stock` of `stock.templates.*`.
fn section(name: &str) -> &str {
    let tables = ["platform.process", "platform.docker", "platform.nomad", "pooler.platform"];
    let inner = tables.into_iter().find(|table| name.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')));
    inner.unwrap_or_else(|| name.split('.').next().unwrap_or_default())
}

fn first_lower(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut characters = text.chars();
    match characters.next() {
        // Names stay as they are: PostgreSQL, JSON.
        Some(first) if characters.clone().next().is_some_and(char::is_lowercase) && !text.starts_with("PostgreSQL") => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text,
    }
}

fn table(page: &mut String, keys: &[&Key]) {
    page.push_str("| setting | values | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let default = match &key.default {
            Default::Required => "required",
            Default::None => "",
            Default::Is(value) => value,
        };
        let row = format!("| `{}` | {} | {default} | {} |", key.name, key.values, key.meaning.replace('|', "\\|"));
        page.push_str(&row.replace("|  |", "| |"));
        page.push('\n');
    }
}

/// The schema as the file in `docs` has it.
pub fn schema_text() -> String {
    let document: Json = schema::document();
    format!("{}\n", serde_json::to_string_pretty(&document).expect("a schema is JSON"))
}
