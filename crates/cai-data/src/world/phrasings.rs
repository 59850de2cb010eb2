//! How requests are worded. Training and evaluation have their own phrasings.

use super::topic::{Kind, Topic};

/// Which side of the held-out split something belongs to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// May be trained on.
    Training,
    /// Only for evaluation.
    Evaluation,
}

/// One wording of a request, with a place for the topic's name.
#[derive(Clone, Debug)]
pub struct Phrasing {
    /// `howto.t03` (training) or `tip.e11` (evaluation).
    pub id: String,
    /// What it asks for.
    pub kind: Kind,
    /// Who may use it.
    pub split: Split,
    template: &'static str,
}

impl Phrasing {
    /// The request about `topic`.
    pub fn render(&self, topic: &Topic) -> String {
        fill(self.template, topic)
    }
}

/// `{x}` becomes the name of the topic, `{X}` the same with a capital letter.
pub(super) fn fill(template: &str, topic: &Topic) -> String {
    template.replace("{x}", topic.name).replace("{X}", &topic.capitalised())
}

/// All phrasings.
pub(super) fn all() -> Vec<Phrasing> {
    let tables: [(&str, Kind, Split, &[&'static str]); 4] = [
        ("howto.t", Kind::HowTo, Split::Training, &HOW_TO_TRAINING),
        ("howto.e", Kind::HowTo, Split::Evaluation, &HOW_TO_EVALUATION),
        ("tip.t", Kind::Tip, Split::Training, &TIP_TRAINING),
        ("tip.e", Kind::Tip, Split::Evaluation, &TIP_EVALUATION),
    ];
    tables
        .iter()
        .flat_map(|&(prefix, kind, split, templates)| {
            templates.iter().enumerate().map(move |(i, template)| Phrasing {
                id: format!("{prefix}{:02}", i + 1),
                kind,
                split,
                template,
            })
        })
        .collect()
}

const HOW_TO_TRAINING: [&str; 44] = [
    "How do I {x}?",
    "How can I {x}?",
    "How would you {x}?",
    "How does one {x}?",
    "Tell me how to {x}.",
    "Explain how to {x}.",
    "Show me how to {x}.",
    "Please explain how to {x}.",
    "Can you tell me how to {x}?",
    "Could you show me how to {x}?",
    "Would you explain how I can {x}?",
    "What are the steps to {x}?",
    "Give me the steps to {x}.",
    "List the steps to {x}.",
    "I need the steps to {x}.",
    "I want to {x}. What do I do?",
    "I want to {x}. How?",
    "I need to {x}. Where do I start?",
    "I would like to {x}. Please guide me.",
    "I plan to {x}. What comes first?",
    "I have to {x} today. How do I do it?",
    "I must {x} soon. What should I do?",
    "Help me {x}.",
    "Please help me {x}.",
    "Can you help me {x}?",
    "Teach me to {x}.",
    "Steps to {x}, please.",
    "How to {x}?",
    "What do I do to {x}?",
    "What should I do first and next to {x}?",
    "Is there a way to {x}? Which one?",
    "Do you know how to {x}?",
    "I wonder how to {x}.",
    "I have no idea how to {x}.",
    "I don't know how to {x}. Explain it.",
    "Someone asked me how to {x}. What do I say?",
    "Describe how people {x}.",
    "What is the right way to {x}?",
    "Instructions to {x}, please.",
    "Give me a short guide to {x}.",
    "To {x}, what must I do?",
    "When I {x}, what do I do first?",
    "We want to {x}. Tell us how.",
    "My plan is to {x}. Give me the steps.",
];

const HOW_TO_EVALUATION: [&str; 20] = [
    "Walk me through how to {x}.",
    "By what steps can someone {x}?",
    "I am trying to {x}. How should I begin?",
    "Suppose I want to {x}. What comes first, what next?",
    "Could you guide me? I would like to {x}.",
    "How might a person {x}?",
    "I'd be glad to know how to {x}.",
    "What does it take to {x}?",
    "If I want to {x}, what are my steps?",
    "Please give instructions: I need to {x}.",
    "Say I must {x}. What should come first?",
    "Let me know how one can {x}.",
    "Which steps do people take to {x}?",
    "My friend hopes to {x}. Explain the way.",
    "{X}: how is it done?",
    "Where should I start when I {x}?",
    "How should we begin to {x}?",
    "Describe the way to {x}, step by step.",
    "It is time to {x}. What do I do now?",
    "I have tried to {x}. Can you explain how?",
];

const TIP_TRAINING: [&str; 44] = [
    "Give me a tip to {x}.",
    "Do you have a tip to {x}?",
    "What is a good tip to {x}?",
    "I need a tip to {x}.",
    "One tip to {x}, please.",
    "Any tip on how to {x}?",
    "Tell me one trick to {x}.",
    "Is there a trick to {x}?",
    "What trick helps to {x}?",
    "I need a good trick to {x}.",
    "Please share a trick to {x}.",
    "What advice do you have to {x}?",
    "Give me some advice to {x}.",
    "I need advice on how to {x}.",
    "Any advice before I {x}?",
    "Please advise me. I want to {x}.",
    "What hint would help me {x}?",
    "Give me a hint to {x}.",
    "Can I have a hint? I want to {x}.",
    "I could use a tip. I must {x}.",
    "I plan to {x}. Any tips?",
    "I want to {x}. What is your tip?",
    "I have to {x} tomorrow. A tip would be nice.",
    "What should I keep in mind to {x}?",
    "What should I remember when I {x}?",
    "What matters most when I {x}?",
    "What is good to know before I {x}?",
    "Share your best tip to {x}.",
    "Tell me a secret to {x} well.",
    "What do experts advise to {x}?",
    "Can you give me a tip? I need to {x}.",
    "Could you share one tip to {x}?",
    "Would you have advice for someone who wants to {x}?",
    "Which tip helps people {x}?",
    "We are about to {x}. Give us a tip.",
    "Someone wants to {x}. What tip do you give?",
    "Tips to {x}, please.",
    "Advice to {x}?",
    "A hint to {x}, please.",
    "Let me have a tip to {x}.",
    "I'm going to {x}. What should I keep in mind?",
    "What one thing makes it easier to {x}?",
    "Say one useful thing about how to {x}.",
    "Before I {x}, give me one tip.",
];

const TIP_EVALUATION: [&str; 20] = [
    "What would you advise me if I {x}?",
    "I'd like a useful hint: I want to {x}.",
    "Do people know a trick to {x}?",
    "My friend will {x}. Have you got a tip?",
    "What little trick makes it easier to {x}?",
    "Could I get some advice? My plan is to {x}.",
    "I am about to {x} and need a tip.",
    "Name one thing to remember if I {x}.",
    "What is the most useful advice to {x}?",
    "Let me hear your tip: how to {x}.",
    "Which trick would you share to {x}?",
    "If I {x}, what should I keep in mind?",
    "To {x}, what tip is best?",
    "A good hint would help. I have to {x}.",
    "{X}: any tip?",
    "What must I know before I {x}?",
    "Please name a tip for people who {x}.",
    "I hope to {x}. Your advice?",
    "Suppose someone has to {x}. What hint do you give?",
    "Just one trick, please: I need to {x}.",
];
