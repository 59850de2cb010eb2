//! Which tokens are trained, shown and not believed.

use super::{ChatTokenizer, Example};
use crate::Result;

/// Green, and back to the terminal's own colour.
const COLOUR: [&str; 2] = ["\x1b[32m", "\x1b[0m"];
const BRACKETS: [&str; 2] = ["[[", "]]"];

impl ChatTokenizer {
    /// The text of an example, control tokens included, with what is trained in green or, without
    /// `colour`, between `[[` and `]]`.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn marked(&self, example: &Example, colour: bool) -> Result<String> {
        let [open, close] = if colour { COLOUR } else { BRACKETS };
        let mut text = String::new();
        for (trained, ids) in example.runs() {
            let run = self.decode_with_special(ids)?;
            match trained {
                true => text.extend([open, &run, close]),
                false => text.push_str(&run),
            }
        }
        Ok(text)
    }
}

impl Example {
    /// Stretches of tokens that are all trained or all not, in order.
    pub fn runs(&self) -> impl Iterator<Item = (bool, &[u32])> {
        let mut start = 0;
        self.trained.chunk_by(|a, b| a == b).map(move |marks| {
            let ids = &self.ids[start..start + marks.len()];
            start += marks.len();
            (marks[0], ids)
        })
    }
}
