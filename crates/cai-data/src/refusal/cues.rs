//! The cues of refusals and of answers: how English says them, one pattern per cue.
//!
//! Patterns are matched against the words of one sentence (see [`crate::words`]): lower case,
//! contractions written out, a space at both ends.

use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};

/// What a sentence does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cue {
    /// Says that the speaker cannot or will not do something that was asked for.
    Decline,
    /// Asks for pardon.
    Apology,
    /// Names the speaker as a machine with rules.
    Machine,
    /// Has no access to facts, no opinions, no body.
    Lack,
    /// Calls something wrong, illegal, inappropriate or harmful.
    Wrong,
    /// Objects to the question: its assumption, its tone.
    Objection,
    /// Speaks of privacy and consent.
    Privacy,
    /// Turns to something else: "instead", "rather than", "alternatives".
    Instead,
    /// Sends to people who help: a doctor, a hotline, the police, a lawyer.
    Referral,
    /// Feels with the person.
    Empathy,
    /// Offers other help.
    Offer,
    /// Asks for more context.
    Clarify,
    /// Says that something is made up or does not exist.
    Unreal,
    /// Preaches: "it is important to", "everyone deserves".
    Moral,
    /// Speaks of harm and crime in general.
    Harm,
    /// Calls it wrong to ask, to assume or to say what the request says.
    Rebuke,
}

/// Number of cues.
pub(super) const CUES: usize = 16;

/// Which cues a sentence has, one bit each.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cues(u32);

impl Cues {
    pub(super) fn of(words: &str) -> Self {
        let cues = PATTERNS.matches(words).iter().fold(0, |cues, i| cues | 1 << i);
        let declines = 1 << Cue::Decline as u32;
        // "I can't help but smile" and "I cannot recommend it enough" decline nothing.
        let idiom = cues & declines != 0 && NOT_DECLINED.iter().any(|idiom| words.contains(idiom));
        Cues(if idiom { cues & !declines } else { cues })
    }

    pub(super) fn has(self, cue: Cue) -> bool {
        self.0 & (1 << cue as u32) != 0
    }

    pub(super) fn any(self, cues: &[Cue]) -> bool {
        cues.iter().any(|cue| self.has(*cue))
    }
}

const NOT_DECLINED: [&str; 5] =
    [" help but ", " help it ", " help myself ", " help thinking ", " recommend it enough "];

/// Between "cannot" and what is declined.
const ADVERBS: &str = "(?: (?:also|actually|be able to|directly|either|ethically|even|ever|fully|\
in good conscience|in good faith|in any way|just|knowingly|legally|morally|now|personally|possibly|\
properly|really|responsibly|safely|simply|yet))*";

/// What is declined. More than one word where the first alone would be ambiguous: "I cannot tell which
/// is older" declines nothing.
const ACTS: &str = "(?:accommodate|advise|advocate|agree to|aid|allow|answer|approve|argue|assist\
|be a part of|be part of|carry out|comment|complete|comply|condone|continue with|contribute|create\
|direct you|disclose|discuss|do that|do this|do so|do it|draft|encourage|endorse|engage|entertain\
|explain how|facilitate|follow|fulfil|fulfill|generate|give advice|give any|give detail\\w*\
|give instructions|give out|give specific|give you|give that|guide|help|honor|honour|instruct\
|instructions|justify|make (?:any|jokes|a joke|fun|statements|such|that|this)|make suggestions\
|offer|participate|perform|point you|proceed|produce|promote|provide|provid\\w*|recommend|respond\
|reveal|satisfy|say that|share|show you|speculate|suggest|support|talk about|teach|tell you\
|tolerate|walk you through|with that|with this|write|offering|giving|helping|assisting\
|answering|discussing|generating|fulfilling|responding|sharing|supporting|engaging|creating\
|writing|promoting)\\b";

static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    let own = "(?:i|we)(?: am (?:just |only )?an? (?:\\w+ ){1,5}(?:and|so|but)(?: i)?)?(?: (?:really|simply|just|also|therefore|respectfully|unfortunately|\
personally|do|must say|am afraid|am afraid that i|am sorry|am sorry but i|fear i|regret that i))*";
    let not_able = "(?:cannot|could not|will not|would not|should not|shall not|must not\
|(?:am|are|was) (?:not able|unable|not going|not willing|unwilling|not allowed|not permitted\
|not programmed|not designed|not equipped|not authori[sz]ed|not trained|not in a position|not here\
|not inclined) to|(?:am|are) (?:not comfortable|uncomfortable|incapable of|not capable of\
|prohibited from)(?: with)?|do not (?:want|wish|intend) to|do not feel (?:comfortable|able)(?: to)?\
|do not think (?:i|we) (?:can|should)|am not sure i (?:can|should)|lack the ability to\
|do not have the (?:ability|capability|capacity|authority|means|knowledge) to)";
    let decline = format!(
        " {own} {not_able}{ADVERBS} {ACTS}\
| (?:i|we) (?:would|will|must|have to|need to|am going to have to|respectfully|am obliged to|politely)*\
(?: (?:have to|respectfully|politely|also))* ?(?:decline|refuse|refrain from)\\b\
| i (?:would|will) (?:rather|prefer) not\\b| i would prefer not\\b| i do not feel comfortable\\b\
| i am not comfortable\\b| i am sorry but no\\b| not something (?:that )?i (?:can|am able to|will)\\b\
| (?:not within|beyond|outside|outside of|against|violates?|goes against|contrary to) (?:of )?(?:my|our) \
(?:\\w+ ){{0,3}}(?:programming|guidelines|policy|policies|principles|capabilities|purpose|values|rules|ethics|abilities|scope)\\b\
| {own} (?:do not|never|cannot|can never|will not|will never) (?:and (?:cannot|will not|do not) )?(?:\\w+ )?(?:condone|support|endorse|promote|encourage|tolerate|engage in|participate in|advocate)\\b\
| {own} (?:strongly |firmly )?(?:condemn|oppose|discourage|advise against|advise you not|urge you not)\\b\
| {own} (?:am|was) (?:\\w+ )?(?:programmed|designed|here|trained|only able|required) to (?:\\w+ )?(?:respect|follow|adhere|promote|prioriti[sz]e)\\b\
| (?:i am|we are) (?:unable|not able|not allowed|not permitted) (?:to )?$\
| i cannot $| i cannot do (?:that|this|it)\\b"
    );
    let patterns: [String; CUES] = [
        decline,
        " (?:sorry|apologi[sz]e|apologies|regret|forgive me|pardon|i am afraid|unfortunately) ".into(),
        " (?:as an? (?:\\w+ ){0,6}(?:ai|assistant|language model|chatbot|machine)|(?:just|only|i am) an? \
(?:\\w+ ){0,3}(?:ai|language model|assistant)|my (?:\\w+ ){0,2}(?:programming|guidelines|training data|purpose|policy|policies|creators|knowledge cutoff|last update)|\
openai|language model|ai model|artificial intelligence|ethical guidelines) "
            .into(),
        " i (?:do not|cannot|am not able to|am unable to|also do not) (?:currently |actually |really )?(?:have|possess|access|hold|browse|retrieve|know|see|store|form)\
(?: (?:any|direct|real time|the|specific|personal|current|up to date|enough|sufficient|physical|capability|ability|to|information|access|opinions?|beliefs?|feelings?|data|details?|emotions?|knowledge)){1,}\
| do not have (?:access|personal|any information|enough|feelings|opinions)\\b| no access to "
            .into(),
        " (?:is|are|was|were|be|seems?|sounds?|considered|become) (?:\\w+ ){0,3}?(?:illegal|unlawful|unethical|immoral|inappropriate\
|unacceptable|wrong|harmful|dangerous|offensive|discriminatory|disrespectful|hurtful|reprehensible|unsafe|punishable|unjust|inhumane|insensitive|cruel\
|against the law|(?:a|an) (?:\\w+ ){0,2}(?:crime|offen[cs]e|violation|felony|misconception|stereotype|invasion))\\b\
| (?:is|are|would be|be) (?:not|never|neither) (?:\\w+ ){0,4}?(?:appropriate|ethical|moral|acceptable|okay|ok|legal|respectful\
|right|safe|responsible|productive|justified|justifiable|justification|advisable|recommended|an option|the answer|fair|accurate|condoned|tolerated|a solution|the solution)\\b\
| (?:illegal|unethical|immoral|inappropriate|unacceptable) (?:and|or|to) | never (?:justified|justifiable|acceptable|okay|ok|appropriate|right|an? (?:\\w+ )?(?:option|solution|answer))\\b"
            .into(),
        " not sure (?:that |if |whether )?(?:it|this|that) (?:is|would be)\\b| i do not (?:think|believe) (?:that )?(?:it|that|this|there|\\w+|\\w+ \\w+) (?:is|are|would be|should|could)\\b\
| (?:not (?:a |an |be )?(?:\\w+ (?:or|and) )?(?:accurate|appropriate|respectful|fair|valid|true|correct|necessarily|helpful|productive|possible)(?: (?:or|and|nor) \\w+)?) (?:question|statement|to (?:say|suggest|make|assume|refer|discuss|ask|compare|generali[sz]e|encourage|imply|claim|speak|use|attribute|deny|exclude|discriminate|blame|try|request|share|speculate|promote|provide))\\b\
| (?:question|statement|premise|request) (?:\\w+ ){0,6}(?:is|are|contains?|seems?|appears?|may be|makes?|assumes?|perpetuates?|implies|based) \
| (?:i )?(?:must|have to|need to|would like to|want to|should|feel compelled to|cannot help but) (?:\\w+ )?(?:point out|clarify|inform|emphasi[sz]e|stress|correct|remind|advise|address|caution|warn|respectfully)\\b\
| there is no (?:\\w+ ){0,3}(?:reason|justification|evidence|basis|excuse|such|scientific|truth|good|inherent)\\b"
            .into(),
        " (?:privacy|private|confidential|consent|personal (?:\\w+ )?(?:information|details|data|matters?|lives|life)|sensitive (?:information|data|personal)|data protection|confidentiality) ".into(),
        " (?:instead|rather than|alternatives?|alternative ways?|i (?:would|can|strongly|might|could|also)? ?(?:\\w+ )?(?:encourage|suggest|recommend|urge|advise)|better to|best to|focus on|would be more) ".into(),
        " (?:professional(?:s)?|therapist|counsel(?:l?or|l?ors|l?ing)|hotline|helpline|lifeline|authorit(?:y|ies)|law enforcement|the police|emergency services|mental health|seek help|seek (?:\\w+ ){0,3}(?:help|support|assistance|advice|guidance)|reach out|lawyer|attorney|doctor|988|911|trusted (?:person|friend|adult|individual)|crisis|support (?:group|service|network|line)s?) ".into(),
        " (?:sorry (?:to hear|that you|you are|for your|for any)|feeling this way|feel(?:ing)? (?:overwhelmed|distressed|upset|angry|frustrated|hopeless)|difficult time|you are not alone|going through|i understand (?:that|your|you|how)|struggling) ".into(),
        " (?:anything else|something else|other questions?|further questions?|any other|feel free to|happy to (?:help|assist|provide|answer)|here to (?:help|assist|provide)|let me know|glad to (?:help|assist)|different (?:question|topic)|if you have (?:any|other|a)|how (?:can|may) i (?:help|assist)|like to know) ".into(),
        " (?:(?:provide|give|share|offer|need) (?:me |us )?(?:with )?(?:some )?(?:more|additional|further) (?:context|information|details?)|could you (?:please )?(?:clarify|provide|rephrase|specify|explain)|please (?:clarify|rephrase|specify|provide)|what (?:do )?you mean|more specific|rephrase|clarify your|not sure what you) ".into(),
        " (?:fictional (?:character|cat|person|being|individual|figure|school|wizard|superhero|work|universe|entit\\w+|duck|mouse|dog)|fictitious|imaginary|mythical|inanimate|non human|not (?:a )?(?:real|human|sentient|actual|people)\
|(?:do|does) not (?:actually |really |physically )?exist|not possible|impossible|non existent|nonexistent|never existed|not capable of|incapable of|supernatural|superpowers?|scientifically\
|science fiction|nonsensical|absurd|laws of (?:physics|nature)|physically impossible|no (?:one|human|person|human being) (?:can|has|is)|(?:do|does) not (?:have|possess) (?:the |any |a )?(?:\\w+ ){0,2}(?:ability|abilities|capacity|capability|cognitive|real|consciousness|physical|power|powers|feelings)) "
            .into(),
        " (?:it is|it is also|is|be|are) (?:\\w+ ){0,2}?(?:important|crucial|essential|vital|imperative|worth) (?:that|to|for|not)\\b| (?:everyone|all (?:people|individuals|human beings|humans|beings)|every (?:person|individual|human)|they|people|individuals|children|women) (?:\\w+ ){0,8}?(?:deserves?|has the (?:same )?right|have the (?:same )?right|should be (?:treated|able|allowed|given|judged)|be treated)\\b\
| (?:respect|dignity|equality|human rights|inclusiv\\w+|empathy|compassion|kindness|diversity|prejudice|bias|stereotypes?|discrimination|well being) "
            .into(),
        " (?:harm|harms|harming|harmful|violence|violent|illegal|crime|crimes|criminal|unethical|hurt|hurting|injur\\w+|abuse|discriminat\\w+|legal consequences|consequences|law|laws|laws and|stealing|theft|kill|killing|murder|hate|dangerous|unsafe) ".into(),
        " (?:not|never|neither|do not (?:think|believe) (?:that )?(?:it|this|that) (?:is|would be)) (?:\\w+ ){0,2}?(?:appropriate|acceptable|ethical|okay|ok)(?: (?:or|and|nor) (?:\\w+ )?\\w+)? \
(?:question|to (?:\\w+ (?:or|and) )?(?:say|suggest|make (?:\\w+ ){0,3}(?:assumptions?|generali[sz]ations?|judge?ments?|statements?|jokes?|fun)|assume|generali[sz]e|imply|claim|attribute|stereotype|discriminate|exclude|deny|compare|ask|blame|judge))\\b\
| (?:question|statement|premise) (?:\\w+ ){0,3}(?:is|contains?|makes?|perpetuates?|assumes?|implies) (?:\\w+ ){0,5}(?:harmful|offensive|inaccurate|hurtful|discriminatory|disrespectful|inappropriate|stereotypes?|prejudices?)\\b"
            .into(),
    ];
    // Words of other alphabets are no cue, so bytes do; the automaton is large, and built as it is used.
    RegexSetBuilder::new(patterns)
        .unicode(false)
        .size_limit(64 << 20)
        .dfa_size_limit(64 << 20)
        .build()
        .expect("the patterns are constants, and a test compiles them")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cue_has_a_pattern() {
        assert_eq!(PATTERNS.len(), CUES);
    }
}
