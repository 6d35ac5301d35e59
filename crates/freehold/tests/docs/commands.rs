//! Every `freehold …` in the documentation is a command that this program has, with options that it has.

use std::collections::HashMap;
use std::process::Command;

use crate::blocks::blocks;
use crate::{pages, read};

#[test]
fn commands_exist_with_their_options() {
    let mut known = Known::default();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        let mut lines: Vec<String> = blocks(&text)
            .into_iter()
            .filter(|block| block.tag.starts_with("sh"))
            .flat_map(|block| block.text.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.extend(inline(&text).map(str::to_owned));
        for line in lines {
            for command in invocations(&line) {
                seen += 1;
                if let Err(why) = known.check(&command) {
                    wrong.push(format!("{page}: {command:?}: {why}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} commands were found: is the documentation read at all?");
}

/// What stands between backticks on one line.
pub fn inline(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The words after each `freehold`, to the end of that command.
fn invocations(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let word = word.trim_start_matches(['$', '(', '"', '`']);
        let word = word.rsplit_once("$(").map_or(word, |(_, last)| last);
        if word != "freehold" {
            continue;
        }
        let mut command = Vec::new();
        while let Some(next) = words.peek() {
            if matches!(*next, "|" | "||" | "&&" | ">" | "#" | "--" | "…" | ";")
                || next.starts_with('>')
                || next.contains("$(")
            {
                break;
            }
            let next = words.next().unwrap_or_default();
            let plain = next.trim_end_matches([')', '"', ';', ',']);
            command.push(plain.to_owned());
            if plain != next {
                break;
            }
        }
        found.push(command);
    }
    found
}

#[derive(Default)]
struct Known {
    help: HashMap<Vec<String>, Option<String>>,
}

impl Known {
    fn help(&mut self, path: &[String]) -> Option<&str> {
        let ask = || {
            let output = Command::new(env!("CARGO_BIN_EXE_freehold")).args(path).arg("--help").output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        self.help.entry(path.to_vec()).or_insert_with(ask).as_deref()
    }

    fn check(&mut self, command: &[String]) -> Result<(), String> {
        let mut path: Vec<String> = Vec::new();
        for word in command {
            let help = self.help(&path).ok_or("it has no help")?;
            if let Some(option) = word.strip_prefix("--") {
                let option = option.split('=').next().unwrap_or_default();
                let there =
                    help.split(|c: char| c.is_whitespace() || c == ',').any(|w| w.strip_prefix("--") == Some(option));
                if !option.is_empty() && option != "version" && !there {
                    return Err(format!("there is no --{option}"));
                }
                continue;
            }
            let Some((_, commands)) = help.split_once("\nCommands:\n") else { continue };
            let commands = commands.split("\n\n").next().unwrap_or_default();
            let is_one = commands.lines().any(|line| line.split_whitespace().next() == Some(word));
            if !is_one {
                return Err(format!("there is no {word:?}"));
            }
            path.push(word.clone());
        }
        Ok(())
    }
}
