//! Shell completions and man pages of the whole program. The binary brings its command tree: this crate knows only a part of it.

use std::path::Path;

pub use clap_complete::Shell;

/// Writes the completion script to stdout.
pub fn completions(command: &mut clap::Command, shell: Shell) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    crate::output::raw(&script);
}

/// Writes a page for the program and one for each command (`freehold-tenant-create.1`) into a directory.
pub fn man_pages(command: clap::Command, directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}
