//! Freehold's part of a file that is somebody else's: a block of lines between two marks. Pure.
//!
//! All that is outside of the block is theirs and stays as it is, byte for byte: what is taken out leaves the text of
//! before. The first mark has the generation and a digest, so that a block which somebody wrote in is recognised.

use super::seal::digest;

/// A text in two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Divided {
    /// Without the block.
    pub theirs: String,
    pub block: Option<Block>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Which pooler of Freehold's it belongs to; empty where the mark cannot be read.
    pub pooler: String,
    /// None: somebody wrote in it.
    pub generation: Option<u64>,
    pub body: String,
}

impl Divided {
    /// Of a block that is as it was written.
    pub fn generation(&self) -> Option<u64> {
        self.block.as_ref().and_then(|block| block.generation)
    }

    pub fn is_edited(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.generation.is_none())
    }
}

/// Where in their text it goes, by bytes; a line begins there, or the text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub usize);

/// Which lines are whose cannot be said.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    #[error(
        "a mark of Freehold's block is gone, so nobody knows which lines are whose: remove the other mark, and what is left of the block"
    )]
    Half,
    #[error("Freehold's block is in it twice: remove one of the two, with its marks")]
    Twice,
}

const BEGINS: &str = " Freehold begins";
const ENDS: &str = " Freehold ends";
/// Their last line had no end, and was given one.
const JOINED: &str = ", and ended the line above";

pub(super) fn divide(text: &str, comment: char) -> Result<Divided, Torn> {
    let lines = Lines::of(text);
    let mark = |what: &str| -> Vec<(usize, usize)> {
        let is_mark = |line: &str| line.strip_prefix(comment).is_some_and(|rest| rest.starts_with(what));
        lines.0.iter().filter(|(from, to)| is_mark(&text[*from..*to])).copied().collect()
    };
    match (mark(BEGINS).as_slice(), mark(ENDS).as_slice()) {
        ([], []) => Ok(Divided { theirs: text.to_owned(), block: None }),
        ([(from, body)], [(body_end, to)]) if body <= body_end => {
            let (first, body) = (&text[*from..*body], &text[*body..*body_end]);
            let is_joined = first.contains(JOINED);
            let before = &text[..*from];
            let after = &text[*to..];
            // Who went on writing below needs that end.
            let is_ours = is_joined && after.is_empty();
            let before = if is_ours { before.strip_suffix('\n').unwrap_or(before) } else { before };
            let theirs = format!("{before}{after}");
            Ok(Divided { theirs, block: Some(read(first, body, comment)) })
        }
        ([_], [_]) | ([], _) | (_, []) => Err(Torn::Half),
        (_, _) => Err(Torn::Twice),
    }
}

/// With the block in it. `body` is whole lines.
pub(super) fn unite(theirs: &str, place: Place, comment: char, block: (&str, u64), body: &str) -> String {
    let (pooler, generation) = block;
    let (before, after) = theirs.split_at(place.0);
    let is_joined = !before.is_empty() && !before.ends_with('\n');
    let (end, joined) = if is_joined { ("\n", JOINED) } else { ("", "") };
    let first = first_line(comment, pooler, generation, joined, body);
    format!("{before}{end}{first}{body}{comment}{ENDS}.\n{after}")
}

fn first_line(comment: char, pooler: &str, generation: u64, joined: &str, body: &str) -> String {
    let digest = digest(generation, &format!("{pooler}\n{body}"));
    format!(
        "{comment}{BEGINS}{joined}: pooler {pooler} generation {generation} sha256 {digest}; what is changed here is undone\n"
    )
}

fn read(first: &str, body: &str, comment: char) -> Block {
    let joined = if first.contains(JOINED) { JOINED } else { "" };
    let words: Vec<&str> = first.split_once(": ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ["pooler", pooler, "generation", generation, ..] = words.as_slice() else {
        return Block { pooler: String::new(), generation: None, body: body.to_owned() };
    };
    let generation = generation.parse().ok();
    let intact = generation.filter(|generation| first_line(comment, pooler, *generation, joined, body) == first);
    Block { pooler: (*pooler).to_owned(), generation: intact, body: body.to_owned() }
}

/// From and to, the line's end included.
struct Lines(Vec<(usize, usize)>);

impl Lines {
    fn of(text: &str) -> Self {
        let mut at = 0;
        let line = |line: &str| {
            let from = at;
            at += line.len();
            (from, at)
        };
        Self(text.split_inclusive('\n').map(line).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(theirs: &str, generation: u64, body: &str) -> String {
        unite(theirs, Place(theirs.len()), '#', ("p1", generation), body)
    }

    #[test]
    fn a_block_that_somebody_wrote_in_is_recognised() {
        let text = with("a = 1\n", 7, "b = 2\n");
        let block = |text: &str| divide(text, '#').unwrap().block.unwrap();
        assert_eq!(block(&text), Block { pooler: "p1".into(), generation: Some(7), body: "b = 2\n".into() });
        for edited in [
            text.replace("b = 2", "b = 3"),
            text.replace("generation 7", "generation 8"),
            text.replace("pooler p1", "pooler p2"),
            text.replace("# Freehold ends", "c = 3\n# Freehold ends"),
            text.replace("is undone", "is not undone"),
            text.replace(": pooler", " pooler"),
        ] {
            assert_eq!(block(&edited).generation, None, "{edited}");
            assert_eq!(divide(&edited, '#').unwrap().theirs, "a = 1\n");
        }
    }

    #[test]
    fn a_line_that_had_no_end_has_none_again_unless_somebody_went_on_below() {
        let text = with("a = 1", 7, "b = 2\n");
        assert_eq!(divide(&text, '#').unwrap().theirs, "a = 1");
        assert_eq!(divide(&format!("{text}c = 3"), '#').unwrap().theirs, "a = 1\nc = 3");
    }

    #[test]
    fn half_a_block_is_nobodys() {
        let text = with("a = 1\n", 7, "b = 2\n");
        let torn = |text: &str| divide(text, '#').unwrap_err();
        let (without_end, _) = text.split_once("# Freehold ends").unwrap();
        assert_eq!(torn(without_end), Torn::Half);
        assert_eq!(torn(&text.replace("# Freehold begins", "# It begins")), Torn::Half);
        assert_eq!(torn(&format!("{text}{text}")), Torn::Twice);
        let (begin, rest) = text.split_at(text.find("b = 2").unwrap());
        assert_eq!(torn(&format!("# Freehold ends.\n{begin}{}", rest.replace("# Freehold ends.\n", ""))), Torn::Half);
    }

    proptest! {
        #[test]
        fn what_is_theirs_stays_byte_for_byte(
            theirs in "([a-z #;=\\[\\]\"é\r]{0,12}\n?){0,6}", at in any::<prop::sample::Index>(),
            bodies in prop::collection::vec("([a-z=\"]{0,9}\n){0,4}", 1..4),
        ) {
            let mut places: Vec<usize> = theirs.match_indices('\n').map(|(at, _)| at + 1).collect();
            places.extend([0, theirs.len()]);
            let place = Place(places[at.index(places.len())]);
            let mut text = theirs.clone();
            for (generation, body) in bodies.iter().enumerate() {
                let generation = generation as u64;
                let divided = divide(&text, ';').unwrap();
                prop_assert_eq!(&divided.theirs, &theirs);
                text = unite(&divided.theirs, place, ';', ("p", generation), body);
                let block = divide(&text, ';').unwrap().block.unwrap();
                prop_assert_eq!(block.generation, Some(generation));
                prop_assert!(text.contains(body.as_str()));
            }
            prop_assert_eq!(divide(&text, ';').unwrap().theirs, theirs);
        }
    }
}
