//! Every path that the documentation names is there, and every link leads somewhere.

use std::path::Path;

use regex::Regex;

use crate::commands::inline;
use crate::{pages, read, root};

#[test]
fn paths_that_are_named_exist() {
    let all = files();
    let mut missing = Vec::new();
    let links = Regex::new(r"\]\(([^)#\s]+)\)").expect("a pattern");
    for page in pages() {
        let text = read(&page);
        for word in inline(&text).filter(|word| is_path(word)) {
            if !exists(word, &all) {
                missing.push(format!("{page}: `{word}`"));
            }
        }
        for link in links.captures_iter(&text).map(|found| found[1].to_owned()).filter(|link| !link.contains("://")) {
            let from = root().join(&page);
            if !from.parent().unwrap_or(Path::new("")).join(&link).exists() {
                missing.push(format!("{page}: ({link})"));
            }
        }
    }
    assert!(missing.is_empty(), "named and not there:\n{}", missing.join("\n"));
}

const TOP: [&str; 10] =
    ["crates/", "docs/", "scripts/", "templates/", "deploy/", "migrations/", "bench/", ".ci/", ".config/", "control/"];

fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-*".contains(c));
    let in_tree = TOP.iter().any(|top| word.starts_with(top) && word.len() > top.len());
    plain && (in_tree || (word.ends_with(".rs") && word.len() > 3))
}

/// From the root; or the end of one, as a source file is called within its crate.
fn exists(word: &str, all: &[String]) -> bool {
    let word = word.trim_end_matches('/');
    if let Some(directory) = word.strip_suffix("/*") {
        return all.iter().any(|path| path.starts_with(&format!("{directory}/")));
    }
    let is = |path: &String| {
        path == word
            || path.starts_with(&format!("{word}/"))
            || (word.ends_with(".rs") && path.ends_with(&format!("/{word}")))
    };
    all.iter().any(is)
}

fn files() -> Vec<String> {
    let mut files = Vec::new();
    let mut left = vec![root()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).expect("read a directory").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            match path.is_dir() {
                true if name == "target" || name == ".git" => {}
                true => left.push(path),
                false => files.extend(path.strip_prefix(root()).ok().map(|path| path.display().to_string())),
            }
        }
    }
    files
}
