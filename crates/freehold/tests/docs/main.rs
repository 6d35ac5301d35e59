//! The documentation is true: its commands run, its paths and settings exist, its tables are the code's.

mod alerts;
mod blocks;
mod commands;
mod demo;
mod needs;
mod paths;
#[path = "../pooled/small_disk.rs"]
#[expect(dead_code, reason = "the pooler's tests fill and lock theirs as well")]
mod small_disk;
mod tables;

use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository's directory")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Every page for people, by its path in the repository.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned).into();
    for directory in ["docs", "docs/runbooks"] {
        let docs =
            std::fs::read_dir(root().join(directory)).unwrap_or_else(|error| panic!("read {directory}: {error}"));
        let names = docs.flatten().map(|entry| format!("{directory}/{}", entry.file_name().to_string_lossy()));
        pages.extend(names.filter(|path| path.ends_with(".md")));
    }
    pages.sort();
    pages
}
