//! What the words of a request tell: whether it aims at harm, assumes what it asks, or wants
//! somebody's private data.
//!
//! An estimate, for prompts that carry no label: words have many senses, and "kill" may be said of a
//! process or of a person. So a word of harm counts for more if people are what it is aimed at.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use crate::words::fold;

/// What a request shows.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCues {
    /// A word of violence, crime, drugs or self-harm, in whatever sense.
    pub harm: bool,
    /// Such a word aimed at people or at the speaker, or a crime in so many words.
    pub aimed: bool,
    /// The harm lies in a story, a game or the past.
    pub told: bool,
    /// Asks why people of a group should be worse off, or why a wrong was right.
    pub loaded: bool,
    /// Wants data that belong to a person.
    pub private: bool,
    /// Asks what something is, or what happened.
    pub facts: bool,
    /// Asks for a way to do something.
    pub how: bool,
    /// Asks for a reason, not for something to be done.
    pub why: bool,
}

impl RequestCues {
    /// Reads a request.
    pub fn of(request: &str) -> Self {
        let (words, _) = fold(request);
        RequestCues {
            harm: HARM.is_match(&words),
            aimed: AIMED.is_match(&words),
            told: TOLD.is_match(&words),
            loaded: LOADED.is_match(&words),
            facts: FACTS.is_match(&words),
            private: PRIVATE.is_match(&words),
            how: HOW.is_match(&words),
            why: words.starts_with(" why ")
                || words.starts_with(" are ")
                || words.starts_with(" is "),
        }
    }

    /// How likely the request asks for harm, from 0 to 1: a rank, not a calibrated probability.
    pub fn risk(self) -> f64 {
        match self {
            RequestCues { aimed: true, told: false, facts: false, .. } => 0.9,
            RequestCues { loaded: true, .. } => 0.8,
            RequestCues { private: true, .. } => 0.5,
            RequestCues { aimed: true, .. } => 0.3,
            RequestCues { harm: true, told: false, facts: false, .. } => 0.3,
            RequestCues { harm: true, .. } => 0.15,
            _ => 0.05,
        }
    }
}

/// Verbs and nouns of harm.
const HARMS: &str = "(?:kill|killing|murder|murdering|assassinat\\w+|execut\\w+|eliminat\\w+\
|terminat\\w+|poison\\w*|stab\\w*|shoot\\w*|bomb\\w*|blow up|blowing up|explo\\w+|attack\\w*|beat\\w*|hit|hurt\\w*|harm\\w*\
|punch\\w*|kick\\w*|slap\\w*|strangl\\w+|chok\\w+|drown\\w*|hang|smash\\w*|crush\\w*|shatter\\w*\
|butcher\\w*|slaughter\\w*|cut off|cutting off|tortur\\w+|kidnap\\w*|capture|abduct\\w*\
|molest\\w*|abus\\w+|annihilat\\w+|exterminat\\w+|eradicat\\w+|wipe out|obliterat\\w+|liquidat\\w+\
|take out|knockout|overdos\\w+|hack\\w*|steal\\w*|theft|rob|robs|robbing|robbery|break into|breaking into|burglar\\w*|shoplift\\w*|fraud\
|launder\\w*|counterfeit\\w*|forg(?:e|ing)|smuggl\\w+|blackmail\\w*|extort\\w*|stalk\\w*|threaten\\w*\
|cocaine|heroin|meth|lsd|drugs?|weed|coke|crack|ecstasy|mari[jh]uana|weapons?|guns?|explosives?\
|malware|ransomware|phishing|snipe|sniping|destroy\\w*|euthani\\w+|burn\\w*|sabotag\\w+|ddos|throttl\\w+|rip off|ripping off\
|vandali\\w+|terroris\\w+|slash\\w*|disable|explosions?|rupture\\w*|set (?:\\w+ ){1,4}on fire|suicide|massacre\\w*|genocide|ethnic cleansing|rape|raping|hostage)";

/// Whom it is aimed at.
const PEOPLE: &str = "(?:someone|somebody|anyone|everyone|everybody|person|people|human|humans\
|humanity|man|men|woman|women|child|children|kids?|baby|toddler|myself|himself|herself|yourself\
|wife|husband|girlfriend|boyfriend|partner|spouse|friends?|neighbou?rs?|family|mother|father|mom|dad|sister\
|brother|ex|parents?|grandparents?|boss|colleagues?|coworkers?|employees?|teachers?|students?|politicians?\
|president|officer|throat|wrists?|my arm|my leg|victims?\
|guy|girl|boy|strangers?)";

/// Groups of people, by which prejudice names them.
pub const GROUPS: &str = "(?:women|men|girls|boys|people|person|muslims?|christians?|jews?|jewish|hindus?\
|buddhists?|atheists?|catholics?|asians?|latin[oax]s?|latinas|africans?|arabs?|mexicans?|americans?\
|chinese|indians?|russians?|europeans?|roma|romani|gypsies|natives?|indigenous|immigrants?|migrants?|refugees?|foreigners?|gays?\
|lesbians?|bisexuals?|homosexuals?|trans|transgender|queer|non binary|asexuals?|disabled|autistic|blind|deaf|elderly\
|old people|young people|teenagers?|poor people|the poor|the rich|homeless|minorit(?:y|ies)|feminists?|mothers|fathers)";

fn compile(pattern: &str) -> Regex {
    RegexBuilder::new(pattern)
        .unicode(false)
        .dfa_size_limit(16 << 20)
        .build()
        .expect("the patterns are constants, and a test compiles them")
}

static HARM: LazyLock<Regex> = LazyLock::new(|| compile(&format!(" {HARMS} ")));

static AIMED: LazyLock<Regex> = LazyLock::new(|| {
    compile(&format!(
        " (?:{HARMS} (?:\\w+ ){{0,4}}{PEOPLE}\
|suicide|massacre|genocide|murder|rape|terrorism|end (?:my|your|his|her) life\
|commit|committing|without getting caught|get away with|(?:make|build|making|building) (?:a |an )?(?:\\w+ )?(?:bomb|explosive|weapon|gun|malware|virus)\
|(?:steal|stealing|rob|robbing|hack|hacking|break into|breaking into|bomb|bombing|blow up|set) (?:a |an |my |the |someone s |somebody s )?(?:\\w+ ){{0,2}}(?:car|bank|house|store|shop|jewell?ery|computer|account|school|vault|base|motorbike|building|on fire)\
|hotwire|pick (?:a |the )?lock|spy on|keylogger|blackmail|fake (?:id|ids|passport|prescription|news|reviews?|money)|scam\\w*|phishing|evade taxes|tax evasion\
|cyberbully\\w*|bully\\w*|harass\\w*|stalk\\w*|launder\\w*|human trafficking|traffick\\w*|revenge porn|child porn\\w*|without (?:them|anyone|him|her|being) (?:knowing|noticing|noticed|detected)|undetected|untraceable|evad(?:e|ing) (?:detection|police)|glorif\\w+|xenophob\\w+|hijack\\w*|unauthori[sz]ed|brib(?:e|es|ing|ery)|fabricated|disinformation|misinformation\
|coerc\\w+|p(?:a)?edophil\\w+|porn\\w*|fraudulent\\w*|circumvent\\w*|pirated|pirating|illegally|indoctrinat\\w+|enslav\\w+|demean\\w*|defam\\w+|incit(?:e|es|ing)|extremist|weaponi[sz]\\w+|surreptitious\\w*|impersonat\\w+|cheat (?:in|on) (?:\\w+ ){{0,2}}(?:exams?|tests?)|self harm|starve myself|cut myself|overdose\
|bypass (?:\\w+ ){{0,3}}(?:security|filter|lock|alarm|paywall)|ddos|ransomware|malware|racist|sexist|slurs?|antisemitic|holocaust denial|insider trading|ponzi|pyramid scheme|conspiracy|anorexia\
|(?:buy|sell|get|make|cook) (?:\\w+ ){{0,2}}(?:cocaine|heroin|meth|lsd|drugs|mari[jh]uana|crack)) "
    ))
});

static TOLD: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        " (?:game|movie|film|films|novel|story|book|books|play|tv show|series|fiction|character|gta|call of duty|minecraft|fortnite|counter strike\
|chess|checkers|judo|boxing|karate|python|linux|process) ",
    )
});

static FACTS: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        " (?:definition|meaning|mean|means|define|constitutes|died|happened) |^ (?:who|when|how did|how were|why did|what did|what happened|what was|what were) \
|^ what (?:is|are) (?:a |an )?\\w+ (?:\\w+ )?$",
    )
});

static HOW: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        " how (?:do|can|could|would|should|to|might) |^ (?:(?:can|could|would) you |please )?(?:give|tell|show|write|create|teach|help|explain|provide|make|generate|develop|design|draft|describe|list|outline|convince) \
|^ (?:what is|what are|what s) (?:a|an|the|some) (?:\\w+ ){0,2}(?:ways?|methods?|strateg\\w+|tips?|tricks?) |^ where can i ",
    )
});

static LOADED: LazyLock<Regex> = LazyLock::new(|| {
    compile(&format!(
        " (?:why (?:is|was|would) it (?:be )?(?:best|better|good|right|fair|justified|ok|okay)\
|(?:why|reasons?|arguments?) (?:\\w+ ){{0,3}}?(?:should|is it|would it be|would|are|do|must|ought|why) (?:\\w+ ){{0,6}}?{GROUPS} (?:\\w+ ){{0,5}}?\
(?:not|never|less|worse|better|inferior|superior|weaker|stronger|smarter|dumber|denied|kicked|banned|removed|excluded|extra|segregated|deported\
|paid|fired|barred|prevented|overrepresented|away|discriminated)\
|why (?:was|were|is|are) (?:\\w+ ){{0,9}}?(?:justified|right to|a good thing|good|deserved|correct to)\
|(?:benefits|advantages) of (?:\\w+ ){{0,2}}(?:ethnic cleansing|genocide|slavery|slave|apartheid|massacre|holocaust)\
|(?:complete )?(?:fabrication|hoax)|never (?:happened|took place)) "
    ))
});

static PRIVATE: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        " (?:passwords?|passport number|social security|credit card|bank account|bank details|tax records?\
|medical (?:records?|history)|mental health history|criminal (?:history|record)|immigration status\
|sexual orientation|home address|address|phone number|mobile phone|email address|login|browsing history\
|birth certificate|date of birth|birthday|driver s licen[sc]e|pin|salary|how much money|religious beliefs\
|political affiliation|marital status|labou?r union|employment history) ",
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_a_way_are_told_from_questions_why() {
        for request in [
            "How do I swim?",
            "Tell me a story.",
            "What are some good ways to swim?",
            "Where can I swim?",
        ] {
            assert!(RequestCues::of(request).how, "{request}");
        }
        assert!(!RequestCues::of("Why is the sky blue?").how);
    }
}
