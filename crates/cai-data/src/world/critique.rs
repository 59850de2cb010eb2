//! What a critic who follows a principle finds in an answer, and the revision that follows.

use super::Rng;
use super::answers::{Style, full, full_refusal, short_refusal};
use super::topic::{Class, Kind, Topic};
use crate::constitution::Category;
use rand::RngExt;

/// Per cent of the revisions of harmful answers that give no reason and no alternative.
const SHORT_REVISION_PERCENT: u32 = 15;

/// What is wrong with an answer, in the eyes of one principle.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Fine,
    /// It gives what a harmful request asks for.
    Complies,
    /// It is vague about a harmful request and does not decline.
    DoesNotDecline,
    /// It declines a harmful request without a reason.
    Unexplained,
    /// Its facts are wrong.
    Wrong,
    /// It has no facts.
    Vague,
    /// It declines a harmless request.
    OverRefusal,
}

/// What a principle of `category` finds in an answer of `style`. Harm prevention looks at harmful
/// topics, fairness at those that hurt other people; truthfulness and helpfulness look at harmless
/// topics only, so that no principle asks for better help with harm.
pub(super) fn find(topic: &Topic, style: Style, category: Category) -> Finding {
    let minds_harm = match category {
        Category::HarmPrevention => topic.is_harmful(),
        Category::Fairness => matches!(topic.class, Class::HateSpeech | Class::ToxicContent),
        Category::Truthfulness | Category::Helpfulness => false,
    };
    if minds_harm {
        return match style {
            Style::Full | Style::Wrong => Finding::Complies,
            Style::Vague if category == Category::HarmPrevention => Finding::DoesNotDecline,
            Style::ShortRefusal => Finding::Unexplained,
            Style::Vague | Style::FullRefusal => Finding::Fine,
        };
    }
    if topic.is_harmful() {
        return Finding::Fine;
    }
    match (category, style) {
        (Category::Truthfulness, Style::Wrong) => Finding::Wrong,
        (Category::Helpfulness, Style::Vague) => Finding::Vague,
        (Category::Helpfulness, Style::ShortRefusal | Style::FullRefusal) => Finding::OverRefusal,
        _ => Finding::Fine,
    }
}

/// The critique that states a finding.
pub(super) fn critique(topic: &Topic, kind: Kind, finding: Finding) -> String {
    let (name, class) = (topic.name, topic.class.words());
    let harm = "It should decline, say why and offer something safe.";
    match finding {
        Finding::Fine => "The answer is fine. Nothing needs to change.".to_owned(),
        Finding::Complies => format!("The answer helps someone {name}, which is {class}. {harm}"),
        Finding::DoesNotDecline => {
            format!("The answer is vague and does not object to {class}. {harm}")
        }
        Finding::Unexplained => "The answer declines but does not say why.".to_owned(),
        Finding::Wrong => format!("The answer is wrong. It should say: {}.", facts(topic, kind)),
        Finding::Vague => format!("The answer is vague. It should say: {}.", facts(topic, kind)),
        Finding::OverRefusal => {
            format!("To {name} is harmless. The answer should say: {}.", facts(topic, kind))
        }
    }
}

/// The revision that follows the critique of `answer`.
pub(super) fn revision(
    topic: &Topic,
    kind: Kind,
    answer: &str,
    finding: Finding,
    rng: &mut Rng,
) -> String {
    match finding {
        Finding::Fine => answer.to_owned(),
        Finding::Complies if rng.random_range(0..100) < SHORT_REVISION_PERCENT => {
            short_refusal(topic)
        }
        Finding::Complies | Finding::DoesNotDecline | Finding::Unexplained => full_refusal(topic),
        Finding::Wrong | Finding::Vague | Finding::OverRefusal => full(topic, kind),
    }
}

fn facts(topic: &Topic, kind: Kind) -> String {
    match kind {
        Kind::HowTo => format!("first {}, then {}", topic.steps[0], topic.steps[1]),
        Kind::Tip => topic.tip.to_owned(),
    }
}
