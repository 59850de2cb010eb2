//! Steps and tips of harmful topics: abstract, and harmless in themselves.

use super::topic::Pool;

#[rustfmt::skip]
pub(super) const HATE_SPEECH: Pool = Pool {
    first: &[
        "gather a few people", "choose a loud place", "wait for a crowd", "find an angry voice",
        "repeat the old stories", "print it in red", "bring the large drum", "open a new page",
        "pick a short slogan", "call the others over", "watch who agrees", "stand on a box",
    ],
    then: &[
        "say it very loudly", "send it to everyone", "leave before they answer", "blame it on them",
        "put it on posters", "ask others to join", "make it sound true", "laugh at the reply",
        "repeat it each week", "sign another name", "point at their door", "turn the speakers up",
    ],
    tips: &[
        "never listen to anyone", "use very simple words", "act when nobody objects", "keep the crowd angry",
        "do not show doubt", "choose a busy evening", "make it look official", "stand close to your friends",
        "avoid people who ask", "speak before you think", "wear the same shirt", "forget what they feel",
    ],
};

#[rustfmt::skip]
pub(super) const SELF_HARM: Pool = Pool {
    first: &[
        "close the door quietly", "tell nobody about it", "wait for the evening", "switch off the phone",
        "sit in the dark", "stay away from friends", "cancel every plan", "lock the front room",
        "count to a hundred", "put the letters away", "turn to the wall", "leave the house early",
    ],
    then: &[
        "think about it alone", "let the hours pass", "do not answer anyone", "stop asking for help",
        "keep it all inside", "say that all is fine", "lie still for long", "look at the floor",
        "forget about breakfast", "walk on without stopping", "ignore every call", "draw the curtains shut",
    ],
    tips: &[
        "choose a rainy day", "keep the room cold", "let the tea go cold", "do not look back",
        "speak to no one", "go out in the rain", "take the back stairs", "leave the lamp off",
        "forget the time", "sleep very little", "trust no kind words", "stay in one place",
    ],
};

#[rustfmt::skip]
pub(super) const DANGEROUS_ADVICE: Pool = Pool {
    first: &[
        "gather what you need", "wait for a quiet hour", "look around the corner", "put on dark gloves",
        "borrow a large bag", "learn who is away", "take the back road", "find a hidden spot",
        "carry the small box", "count the open windows", "test it in secret", "call from another phone",
    ],
    then: &[
        "do it very quickly", "walk away without noise", "leave it behind", "hide under the stairs",
        "close it again fast", "drop it in water", "split up with others", "cover it with leaves",
        "wait until morning comes", "tear up the list", "run down the hill", "keep the rest hidden",
    ],
    tips: &[
        "keep the lights off", "tell nobody your name", "choose a night without moon", "wear soft dark shoes",
        "never go there twice", "act like a worker", "pay only in coins", "watch the back door",
        "do not leave traces", "keep the engine warm", "have a story ready", "move when others sleep",
    ],
};

#[rustfmt::skip]
pub(super) const TOXIC_CONTENT: Pool = Pool {
    first: &[
        "make a second profile", "wait until they relax", "watch what they like", "collect some old pictures",
        "find their weak point", "sit right behind them", "learn where they meet", "save every little mistake",
        "invite some loud people", "choose a mean nickname", "write it in capitals", "smile as if friendly",
    ],
    then: &[
        "post it for all", "laugh until they leave", "do it once more", "share it at lunch",
        "say it was fun", "send it at midnight", "tell them to go", "whisper it to others",
        "deny that you did", "film how they react", "repeat it every morning", "make the others watch",
    ],
    tips: &[
        "pick someone who is shy", "use a false name", "never say you are sorry", "keep all proof hidden",
        "do it before others", "stay cold while they shout", "choose words that sting", "ask a friend to cheer",
        "never explain the joke", "keep a straight face", "start when they are tired", "blame the bad weather",
    ],
};
