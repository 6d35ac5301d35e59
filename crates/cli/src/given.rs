//! What a command is given besides words: a secret, which may come from a file, a variable or stdin, and files.

use std::path::{Path, PathBuf};

use crate::Cx;
use crate::failure::Failure;
use crate::value::Secret;

/// A connection string with a password; `nothing` is what is said where none of the three is there.
pub async fn secret(
    text: Option<Secret>,
    file: Option<PathBuf>,
    variable: Option<String>,
    nothing: &str,
    cx: &mut Cx,
) -> Result<Secret, Failure> {
    let text = match (text, file, variable) {
        (Some(Secret(dash)), _, _) if dash == "-" => stdin(cx).await?,
        (Some(Secret(text)), _, _) => text,
        (None, Some(path), _) => self::text(&path)?,
        (None, None, Some(name)) => match cx.around.var(&name) {
            Some(text) => text.to_owned(),
            None => return Err(Failure::usage(format!("the environment variable {name} is not set"))),
        },
        (None, None, None) => return Err(Failure::usage(nothing)),
    };
    match text.trim() {
        "" => Err(Failure::usage("the connection string is empty")),
        text => Ok(Secret(text.to_owned())),
    }
}

/// On a thread of its own: a person who types nothing must still be able to interrupt.
async fn stdin(cx: &mut Cx) -> Result<String, Failure> {
    let mut stdin = std::mem::replace(&mut cx.around.stdin, Box::new(std::io::empty()));
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        stdin.read_to_string(&mut text).map(|_| text)
    });
    match read.await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(Failure::usage(format!("cannot read the connection string from stdin: {error}"))),
        Err(error) => Err(Failure::usage(format!("cannot read stdin: {error}"))),
    }
}

pub fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Prerequisite {
        detail: format!("cannot read {}: {error}", path.display()),
        next: None,
    })
}
