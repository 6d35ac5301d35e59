//! Shell completions of the whole program. The binary brings its command tree: this crate knows only a part of it.

pub use clap_complete::Shell;

/// Writes the completion script to stdout.
pub fn completions(command: &mut clap::Command, shell: Shell) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    crate::output::raw(&script);
}
