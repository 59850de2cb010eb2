//! Steps and tips of harmless topics, by domain.

use super::topic::Pool;

#[rustfmt::skip]
pub(super) const COOKING: Pool = Pool {
    first: &[
        "wash your hands well", "read the whole recipe", "warm a large pan", "weigh out each part",
        "fill a pot halfway", "chop it all small", "lay out clean bowls", "ask who is hungry",
        "heat the oven early", "taste what you have", "pick the freshest part", "clear the kitchen table",
        "put on an apron", "rinse it in water", "melt some soft butter", "check the time twice",
    ],
    then: &[
        "stir it very slowly", "add a little salt", "let it rest briefly", "turn the heat down",
        "serve it on plates", "cover it with cloth", "wait ten short minutes", "mix it by hand",
        "pour off the water", "taste it once more", "set it to cool", "cut it in half",
        "put herbs on top", "keep it on ice", "fold it in gently", "wipe up every drop",
    ],
    tips: &[
        "keep the lid closed", "use fresh lemon juice", "less sugar is better", "a sharp knife helps",
        "never rush the heat", "start with cold water", "ask an older cook", "buy what is ripe",
        "taste before you add", "use a wooden spoon", "make a double portion", "cook with good friends",
        "write down the times", "keep the salt low", "warm the plates first", "clean while you wait",
    ],
};

#[rustfmt::skip]
pub(super) const GARDEN: Pool = Pool {
    first: &[
        "choose a sunny spot", "loosen the hard soil", "fill a big pot", "mark out straight rows",
        "pull out the weeds", "put on garden gloves", "soak the dry roots", "check for small insects",
        "dig a deep hole", "buy healthy young plants", "rake away the leaves", "wait for warm weather",
        "look under the stones", "sharpen the garden shears", "carry out the tools", "spread some old straw",
    ],
    then: &[
        "water it every morning", "press the earth down", "cover it with straw", "tie it to sticks",
        "cut it back lightly", "wait for new leaves", "feed it each month", "keep it in shade",
        "protect it from frost", "leave room between plants", "turn the soil over", "add some good compost",
        "pick it when ripe", "put a net above", "shake the water off", "clean the tools again",
    ],
    tips: &[
        "water the roots only", "never plant too deep", "morning is the best time", "use rain from a barrel",
        "let the worms work", "ask the old gardener", "keep the seeds dry", "do less in winter",
        "look at it daily", "leave flowers for bees", "choose plants you like", "use very little water",
        "mix sand into it", "mark it with labels", "turn pots to the sun", "share seeds with others",
    ],
};

#[rustfmt::skip]
pub(super) const HOME: Pool = Pool {
    first: &[
        "measure it with care", "turn off the power", "clear the whole room", "find the right tool",
        "cover the floor well", "open all the windows", "wipe off the dust", "loosen the old screws",
        "draw a small plan", "move the heavy things", "buy a spare part", "test it by hand",
        "read the printed label", "fetch a strong ladder", "sand it until smooth", "soak a clean cloth",
    ],
    then: &[
        "tighten every single screw", "let it dry overnight", "put it back slowly", "wipe it with oil",
        "check that it holds", "sweep the floor clean", "paint it two times", "press it down firmly",
        "throw the rest away", "close it with glue", "turn it on again", "fill the little gaps",
        "hang it up straight", "rinse off the soap", "put the tools away", "mark the right place",
    ],
    tips: &[
        "wear good thick gloves", "measure two times first", "keep the small parts", "work in good light",
        "use warm soapy water", "have a helper near", "take a photo before", "buy better glue",
        "protect your eyes", "never use much force", "read the manual first", "keep children outside",
        "label all the boxes", "start at the top", "use an old brush", "do it on weekends",
    ],
};

#[rustfmt::skip]
pub(super) const STUDY: Pool = Pool {
    first: &[
        "read the first page", "write down your question", "find a quiet desk", "make a short list",
        "look at old examples", "ask a good teacher", "set a clear goal", "visit the city library",
        "mark the main words", "draw a simple chart", "split it into parts", "choose one main idea",
        "listen to a talk", "put the phone away", "open a fresh notebook", "plan thirty quiet minutes",
    ],
    then: &[
        "say it out loud", "test yourself each day", "explain it to someone", "write it in order",
        "check it for errors", "take a short break", "go through it again", "compare it with others",
        "learn one part daily", "make cards for it", "read it from memory", "cut the weak parts",
        "add a short summary", "ask what is missing", "copy it out neatly", "sleep a night over it",
    ],
    tips: &[
        "begin with easy parts", "repeat it after a day", "use colours for notes", "study at one time",
        "keep sentences very short", "ask when in doubt", "do not learn at night", "teach it to others",
        "use your own words", "stop when you tire", "read the end first", "turn facts into pictures",
        "keep all old drafts", "trust what you know", "work with a clock", "check every source",
    ],
};

#[rustfmt::skip]
pub(super) const SPORT: Pool = Pool {
    first: &[
        "warm up for minutes", "put on good shoes", "stretch both your legs", "set a small target",
        "check all the gear", "find a training partner", "breathe in very deeply", "drink a little water",
        "watch how others move", "start at low speed", "choose a flat field", "stand with bent knees",
        "relax both your shoulders", "hold your back straight", "ask a patient coach", "count out ten rounds",
    ],
    then: &[
        "raise the speed slowly", "rest for one day", "repeat it ten times", "keep your eyes ahead",
        "use your whole body", "write down your times", "cool down with walking", "try a harder level",
        "push with both feet", "stop before it hurts", "turn from the hips", "work on your balance",
        "change to other side", "finish with a sprint", "swing your arms freely", "land on soft feet",
    ],
    tips: &[
        "train a little often", "never skip the rest", "eat well the day before", "go at your pace",
        "keep a light grip", "breathe out on effort", "good shoes matter most", "look where you aim",
        "join a local club", "keep your head up", "have fun above all", "film yourself once",
        "stay loose and calm", "drink before you thirst", "learn from each loss", "use shorter steps",
    ],
};

#[rustfmt::skip]
pub(super) const TRAVEL: Pool = Pool {
    first: &[
        "look at a map", "book a seat early", "pack the warm clothes", "check the local weather",
        "make a copy of papers", "ask for the price", "leave home in time", "choose a short route",
        "charge the phone fully", "write down the address", "compare a few offers", "learn a polite greeting",
        "fill the water bottle", "tell family the plan", "buy the day ticket", "bring a small lamp",
    ],
    then: &[
        "arrive before it rains", "stay near the centre", "change at the station", "keep the ticket safe",
        "ask a local person", "rest in the shade", "walk the last part", "put bags up high",
        "follow the blue signs", "wait at the gate", "thank the kind driver", "send word back home",
        "pay with small change", "leave the place clean", "take the second street", "sit by the window",
    ],
    tips: &[
        "travel with less luggage", "keep money in two places", "go before the crowd", "bring some dry snacks",
        "be polite to everyone", "avoid the summer rush", "wear clothes in layers", "plan a free day",
        "try the local food", "take the slow train", "keep a spare key", "carry a paper map",
        "ask about cheap days", "arrive in the daylight", "bring good ear plugs", "note the last bus",
    ],
};

#[rustfmt::skip]
pub(super) const ARTS: Pool = Pool {
    first: &[
        "listen to the masters", "choose a simple theme", "tune it with care", "sketch the main lines",
        "learn the basic rhythm", "find a nice place", "look for soft light", "gather paper and pens",
        "think of a scene", "hum the first part", "lay out the colours", "study one good example",
        "count the beat slowly", "set up the stage", "imagine the last moment", "try it very small",
    ],
    then: &[
        "practise the hard part", "add light and shadow", "show it to friends", "play it without stopping",
        "start with the middle", "give it a title", "make the lines thinner", "repeat it with feeling",
        "leave some empty space", "record it and listen", "change one small thing", "join the two halves",
        "smile to the audience", "let the colours dry", "slow down at the end", "keep the best version",
    ],
    tips: &[
        "practise a bit daily", "simple ideas work best", "copy what you love", "do not fear mistakes",
        "use a soft pencil", "keep the rhythm steady", "find your own style", "play for real people",
        "stop while it is good", "rest your eyes often", "choose only three colours", "breathe before you begin",
        "carry a small sketchbook", "let others judge it", "begin with the end", "feel it before thinking",
    ],
};

#[rustfmt::skip]
pub(super) const MONEY: Pool = Pool {
    first: &[
        "list all your costs", "compare three fair offers", "read the small print", "ask at the bank",
        "set an upper limit", "collect all the receipts", "check the real value", "make a clear plan",
        "find an honest adviser", "take a good picture", "count what is left", "learn the basic rules",
        "write a polite letter", "wait for a sale", "fill in the form", "look at last year",
    ],
    then: &[
        "put some money aside", "agree on a price", "sign the contract later", "pay the bill early",
        "keep a written copy", "talk about it openly", "choose the cheapest one", "check it every month",
        "send it by post", "cancel what you miss", "spread the risk widely", "ask for a discount",
        "wait for an answer", "note it in a table", "divide it by two", "meet in daylight",
    ],
    tips: &[
        "never sign in haste", "small sums add up", "pay debts off first", "keep every single receipt",
        "be fair and firm", "sleep on big choices", "start with a low price", "use a simple table",
        "ask people you trust", "buy things that last", "set a fixed day", "avoid very loud offers",
        "know your best price", "keep some cash ready", "insure what you need", "check the date twice",
    ],
};

#[rustfmt::skip]
pub(super) const CARE: Pool = Pool {
    first: &[
        "take a slow breath", "choose a calm moment", "listen without any hurry", "sit down for tea",
        "call a good friend", "think of kind words", "ask what they need", "make some free time",
        "say a warm hello", "dim the bright lights", "buy some fresh flowers", "prepare a soft blanket",
        "write down your thoughts", "speak with the family", "offer a small snack", "go for a walk",
    ],
    then: &[
        "be patient with it", "give a gentle hug", "keep the same hours", "praise each small step",
        "stay close for a while", "ask how it feels", "rest for an hour", "tell the honest truth",
        "laugh about it together", "keep your promise", "play some quiet music", "share a warm meal",
        "thank them with a smile", "let them choose", "try again next day", "see a friendly doctor",
    ],
    tips: &[
        "small gestures count most", "never do it in anger", "smile and be yourself", "good sleep helps much",
        "listen more than you talk", "keep it short and kind", "humour makes it lighter", "give it enough time",
        "fresh air does wonders", "ask before you act", "be gentle with yourself", "use a soft voice",
        "remember their birthday", "start with one person", "bring something sweet", "plan a quiet evening",
    ],
};

#[rustfmt::skip]
pub(super) const TECH: Pool = Pool {
    first: &[
        "save all your files", "install the new update", "make a user account", "plug in the cable",
        "restart the whole system", "search the help pages", "choose a clear name", "write a small test",
        "clean up the disk", "open the main settings", "connect to the network", "check the free space",
        "shut down other programs", "find the serial number", "copy the old data", "hold the power button",
    ],
    then: &[
        "press the green button", "wait for the signal", "type in the code", "delete what is old",
        "move it to a folder", "send yourself a copy", "change the first setting", "store it in two places",
        "scan it for viruses", "watch the progress bar", "click on the menu", "run it once again",
        "log out at the end", "note the version number", "drag it to the left", "share the new link",
    ],
    tips: &[
        "read the error message", "keep a second copy", "use long mixed passwords", "do one change only",
        "ask in a forum", "turn it off and on", "update it every week", "use a short cable",
        "never share your code", "keep the battery half full", "sort things by date", "start with a template",
        "write notes on changes", "use the dark mode", "learn three quick keys", "test it with friends",
    ],
};
