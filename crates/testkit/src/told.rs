//! What somebody who writes was told, to be held against what is there.

use std::collections::BTreeSet;

/// Of numbered rows.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub committed: BTreeSet<i64>,
    /// The answer did not come: there, or not.
    pub unknown: BTreeSet<i64>,
}

impl Told {
    /// Every commit is there, once, and so is nothing that nobody wrote; else what is wrong with `table`.
    pub fn compare(&self, table: &str, there: &[i64]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let twice: Vec<i64> = there.iter().copied().filter(|id| !seen.insert(*id)).collect();
        let lost: Vec<i64> = self.committed.difference(&seen).copied().collect();
        let is_made_up = |id: &&i64| !self.committed.contains(*id) && !self.unknown.contains(*id);
        let made_up: Vec<i64> = seen.iter().filter(is_made_up).copied().collect();
        for (what, ids) in [("has twice", twice), ("lost", lost), ("has, and nobody wrote,", made_up)] {
            if !ids.is_empty() {
                let first = &ids[..ids.len().min(20)];
                return Err(format!("{table} {what} {} of {}: {first:?}", ids.len(), self.committed.len()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_there_once() {
        let told = Told { committed: [1, 2].into(), unknown: [3].into() };
        assert_eq!(told.compare("t", &[2, 1]), Ok(()));
        assert_eq!(told.compare("t", &[3, 2, 1]), Ok(()));
        assert_eq!(told.compare("t", &[1, 2, 2]), Err("t has twice 1 of 2: [2]".into()));
        assert_eq!(told.compare("t", &[1]), Err("t lost 1 of 2: [2]".into()));
        assert_eq!(told.compare("t", &[1, 2, 4]), Err("t has, and nobody wrote, 1 of 2: [4]".into()));
    }
}
