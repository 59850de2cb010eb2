//! Everyday topics, by domain.

use super::topic::Domain::{self, *};

#[rustfmt::skip]
pub(super) const TOPICS: [(Domain, &[&str]); 10] = [
    (Cooking, &[
        "boil eggs for breakfast", "bake bread with seeds", "cook rice for six people",
        "make tomato soup from scratch", "roast a chicken with herbs", "grill fish on the beach",
        "prepare a fruit salad", "make pasta by hand", "freeze berries for winter",
        "bake an apple cake", "fry potatoes without oil", "brew a pot of tea",
    ]),
    (Garden, &[
        "grow tomatoes on a balcony", "plant an apple tree", "cut a rose bush",
        "water plants during holidays", "grow herbs in pots", "keep snails off lettuce",
        "make compost from leaves", "sow carrots in spring", "mow a wet lawn",
        "build a raised garden bed", "attract bees to flowers",
    ]),
    (Home, &[
        "fix a dripping tap", "paint a bedroom ceiling", "hang a heavy mirror",
        "clean a dirty oven", "repair a wooden chair", "clear a blocked kitchen sink",
        "change a light bulb", "patch a flat bike tyre", "oil a noisy door",
        "remove stains from a carpet", "build a small book shelf",
    ]),
    (Study, &[
        "learn french words quickly", "prepare for a maths test", "remember the names of kings",
        "write a school report", "read a difficult book", "learn to type fast",
        "take part in a debate", "study with a friend", "understand a long poem",
        "solve a hard puzzle", "plan a science project",
    ]),
    (Sport, &[
        "train for a marathon", "learn to swim well", "improve a tennis serve",
        "ride a bike uphill", "start with yoga classes", "throw a basketball further",
        "ski down a steep hill", "warm up before football", "row a boat straight",
        "lift weights at home", "climb a small mountain",
    ]),
    (Travel, &[
        "pack a small suitcase", "plan a trip by bike", "find a cheap hotel",
        "travel with a baby", "read a city map", "camp near a lake",
        "catch an early flight", "rent a car abroad", "visit a museum cheaply",
        "sleep on a night train", "cross a desert by bus",
    ]),
    (Arts, &[
        "learn a guitar song", "draw a human face", "sing a slow song",
        "write a short story", "take photos at sunset", "paint with water colours",
        "act in a comedy", "knit a warm scarf", "fold a paper star",
        "shape a clay bowl", "practise piano every day", "dance a slow waltz",
    ]),
    (Money, &[
        "save money every month", "plan a family budget", "sell an old sofa",
        "compare phone contracts", "ask for a raise", "lower the power bill",
        "buy a used bike", "invest a small sum", "fill in tax forms",
        "share costs with friends", "open a small shop",
    ]),
    (Care, &[
        "sleep well before exams", "calm a tired baby", "comfort a sad friend",
        "look after an old cat", "treat a small cold", "make new friends in town",
        "write a birthday card", "choose a gift for grandma", "say sorry to a brother",
        "relax after hard work", "train a young puppy",
    ]),
    (Tech, &[
        "back up a laptop", "choose a strong password", "set up a new phone",
        "print photos in colour", "build a simple website", "clean a dusty keyboard",
        "speed up a slow computer", "record a video call", "write a small program",
        "sort files in folders", "connect a new printer",
    ]),
];
