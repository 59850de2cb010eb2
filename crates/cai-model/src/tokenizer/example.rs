//! A tokenised chat, and cutting it to a length.

/// A tokenised chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token whether it is trained, that is, predicted by the loss: content, end of turn
    /// and what the template adds after it (`"\n"`), of the trained assistant turns.
    pub trained: Vec<bool>,
}

impl Example {
    /// Tokens before the first trained one; all of them if none is trained.
    pub fn prompt_length(&self) -> usize {
        self.trained.iter().position(|&t| t).unwrap_or(self.ids.len())
    }

    /// Tokens that the loss predicts: the trained ones, but for a first token, which has none
    /// before it.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().skip(1).filter(|&&t| t).count()
    }

    /// Cuts the end off an example longer than `max_length` (TRL's `keep_start`) and says whether
    /// it was longer. Where `prompt_length` is `max_length` or more, nothing trained remains: such
    /// an example is to be left out.
    pub fn truncate(&mut self, max_length: usize) -> bool {
        let longer = self.ids.len() > max_length;
        self.ids.truncate(max_length);
        self.trained.truncate(max_length);
        longer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_cut() {
        let trained = vec![false, false, true, true];
        let mut example = Example { ids: vec![5, 6, 7, 8], trained };
        assert_eq!((example.prompt_length(), example.trained_tokens()), (2, 2));
        assert!(!example.truncate(4));
        assert!(example.truncate(3));
        assert_eq!((example.ids.len(), example.trained_tokens()), (3, 1));
        assert!(example.truncate(2));
        assert_eq!((example.prompt_length(), example.trained_tokens()), (2, 0));
    }
}
