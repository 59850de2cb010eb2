//! Who answers, and who criticises.

use cai_chat::ChatModel;

/// The models of critique and revision.
#[derive(Copy, Clone)]
pub struct Models<'a> {
    /// Answers the prompts.
    pub author: &'a dyn ChatModel,
    /// Criticises and revises the answers.
    pub critic: &'a dyn ChatModel,
}

impl<'a, M: ChatModel> From<&'a M> for Models<'a> {
    /// One model for everything, as in the paper.
    fn from(model: &'a M) -> Self {
        Self { author: model, critic: model }
    }
}
