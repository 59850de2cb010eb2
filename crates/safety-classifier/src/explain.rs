//! Which words make the classifier say what it says.
//!
//! Occlusion (Zeiler and Fergus, arXiv 1311.2901): each word is taken out in turn, and what the
//! probability of the label loses is the word's share in it. It works for any model and needs no
//! gradient; words that only together decide each lose little.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::predict::{Prediction, SafetyClassifier};

/// Longest text that is explained, in words; of a longer one the first words are.
const MAX_WORDS: usize = 400;

/// A text with the share of each word in its label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What the classifier says.
    pub prediction: Prediction,
    /// The words in order, each with the probability that the label loses without it; negative
    /// where the word speaks for another label.
    pub words: Vec<(String, f64)>,
    /// Words at the end that were not explained.
    pub left_out: usize,
}

/// Explains the label of `text`.
///
/// # Errors
/// When the tokenizer or the device fails.
pub fn explain(classifier: &SafetyClassifier, text: &str) -> Result<Explanation> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let explained = words.len().min(MAX_WORDS);
    let without = |i: usize| {
        let others = words.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, word)| *word);
        others.collect::<Vec<_>>().join(" ")
    };
    let occluded: Vec<String> = (0..explained).map(without).collect();
    let whole = words.join(" ");
    let texts: Vec<&str> =
        [whole.as_str()].into_iter().chain(occluded.iter().map(String::as_str)).collect();
    // There is one prediction per text, and the whole text is the first.
    let mut predictions = classifier.predict(&texts)?;
    let prediction = predictions.remove(0);
    let all = prediction.probabilities[&prediction.label];
    let shares = predictions.iter().map(|other| all - other.probabilities[&prediction.label]);
    let words = words.iter().map(ToString::to_string).zip(shares).collect::<Vec<_>>();
    let left_out = text.split_whitespace().count() - words.len();
    Ok(Explanation { prediction, words, left_out })
}

impl Explanation {
    /// For a terminal: the words in colour (red speaks for the label, blue against it) if `colour`,
    /// and the strongest ones with their numbers.
    pub fn terminal(&self, colour: bool) -> String {
        let mut page = format!("{}\n\n", self.heading());
        for (word, share) in &self.words {
            let strength = (share.abs() * 5.0 * 255.0).min(255.0) as u8;
            let rest = 255 - strength;
            let _ = match (colour, *share > 0.0) {
                (false, _) => write!(page, "{word} "),
                (true, true) => write!(page, "\x1b[30;48;2;255;{rest};{rest}m{word}\x1b[0m "),
                (true, false) => write!(page, "\x1b[30;48;2;{rest};{rest};255m{word}\x1b[0m "),
            };
        }
        page.push_str("\n\n");
        for (word, share) in self.strongest(10) {
            let _ = writeln!(page, "{share:+.3}  {word}");
        }
        page
    }

    /// A page of HTML. The text is escaped.
    pub fn html(&self) -> String {
        let mut page = String::from(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Explanation</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <style>:root{color-scheme:light dark}body{font:16px/1.8 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}\
             span{padding:.15em .2em;border-radius:.2em}</style>",
        );
        let _ = write!(page, "<h1>{}</h1><p>", escape(&self.heading()));
        for (word, share) in &self.words {
            let strength = (share.abs() * 5.0).min(1.0);
            let rgb = if *share > 0.0 { "213,94,0" } else { "0,114,178" };
            let _ = write!(
                page,
                "<span style=\"background:rgba({rgb},{strength:.2})\" title=\"{share:+.3}\">{}</span> ",
                escape(word)
            );
        }
        page.push_str(
            "</p><p>Orange words speak for the label, blue ones against it. The number of a word is \
             what the label's probability loses when the word is taken out.</p>\n",
        );
        page
    }

    fn heading(&self) -> String {
        let Prediction { label, probabilities, harm, .. } = &self.prediction;
        let rest = match self.left_out {
            0 => String::new(),
            left_out => format!(" ({left_out} words at the end are not explained)"),
        };
        format!("{label} {:.3}, harm {harm:.3}{rest}", probabilities[label])
    }

    fn strongest(&self, number: usize) -> Vec<(&str, f64)> {
        let mut words: Vec<(&str, f64)> =
            self.words.iter().map(|(word, share)| (word.as_str(), *share)).collect();
        words.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        words.truncate(number);
        words
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_the_words_and_escape_them() {
        let prediction = Prediction {
            label: "toxic_content".into(),
            labels: vec!["toxic_content".into()],
            probabilities: [("safe".into(), 0.2), ("toxic_content".into(), 0.8)].into(),
            harm: 0.8,
            truncated: false,
        };
        let words = vec![("a".into(), -0.01), ("<rude>".into(), 0.5)];
        let explanation = Explanation { prediction, words, left_out: 2 };
        let html = explanation.html();
        assert!(html.contains("&lt;rude&gt;") && !html.contains("<rude>"));
        assert!(html.contains("2 words at the end"));
        let plain = explanation.terminal(false);
        assert!(plain.contains("+0.500  <rude>") && !plain.contains('\x1b'));
        assert!(explanation.terminal(true).contains("\x1b["));
    }
}
