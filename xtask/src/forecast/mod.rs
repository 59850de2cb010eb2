//! How long each stage takes: its tokens, by the config and the data, over how fast this machine works
//! through them with this model.
//!
//! Answers count with their longest length, so that a stage ends earlier where the model does. The
//! classifier is not foreseen: it does not use the model.

mod measure;

use std::{collections::BTreeMap, time::Duration};

use cai_train::TrainArgs;

use crate::{
    config::{Config, PairSource},
    pipeline::{Stage, Step},
};

pub use measure::{data, rates};

/// Tokens a second. Reading takes a third of training: one pass of three.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Read, of prompts.
    pub read: f64,
    /// Written by all rows of a batch together, by the number of rows.
    pub write: BTreeMap<usize, f64>,
    /// Of rows that are trained on, forwards and backwards.
    pub train: f64,
}

/// Records of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Records {
    /// How many.
    pub count: f64,
    /// Tokens of one, on average.
    pub tokens: f64,
}

/// What the stages read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Data {
    /// Conversations for SFT.
    pub helpful: Records,
    /// Prompts that are answered, criticised and compared.
    pub red_team: Records,
    /// Prompts that are compared.
    pub harmless: Records,
    /// Preference pairs of people, the prompt counted once.
    pub pairs: Records,
    /// Prompts of the evaluation.
    pub evaluation: Records,
    /// The requests of a principle: to criticise, to revise.
    pub requests: f64,
    /// The examples of the constitution that stand before them.
    pub examples: f64,
}

impl Rates {
    fn reading(&self, tokens: f64) -> f64 {
        tokens / self.read
    }

    /// Seconds to write, at the measured number of rows that is nearest from below.
    fn writing(&self, tokens: f64, rows: usize) -> f64 {
        let measured = self.write.range(..=rows).next_back().or_else(|| self.write.iter().next());
        measured.map_or(0.0, |(_, rate)| tokens / rate)
    }

    /// Seconds of a training on `records`, a share of them held out and evaluated at its beginning (if
    /// asked for) and end.
    fn training(&self, records: Records, held_out: f64, args: &TrainArgs) -> f64 {
        let Records { count, tokens } = records;
        let evaluations = 1.0 + f64::from(u8::from(args.eval_on_start));
        let held_out = count * held_out;
        let seen = match usize::try_from(args.max_steps) {
            Ok(steps) if steps > 0 => {
                (steps * args.per_device_train_batch_size * args.gradient_accumulation_steps) as f64
            }
            _ => (count - held_out) * args.num_train_epochs,
        };
        seen * tokens / self.train + self.reading(evaluations * held_out * tokens)
    }
}

/// Seconds that each step of the run takes, those that it leaves out aside.
pub fn steps(config: &Config, data: &Data, rates: &Rates) -> Vec<(Step, Duration)> {
    let steps = Step::all(config.dpo.rounds).into_iter();
    let runs = steps.filter(|step| !config.skip.contains_key(&step.stage));
    let foreseen = runs.filter_map(|step| {
        let seconds = match step.stage {
            Stage::Data | Stage::Classifier => return None,
            Stage::Sft => sft(config, data, rates),
            Stage::Critique => critique(config, data, rates),
            Stage::SlCai => sl_cai(config, data, rates),
            Stage::Feedback => feedback(config, data, rates),
            Stage::Dpo => dpo(config, data, rates),
            Stage::Evaluate => evaluate(config, data, rates),
        };
        Some((step, Duration::from_secs_f64(seconds)))
    });
    foreseen.collect()
}

fn sft(config: &Config, data: &Data, rates: &Rates) -> f64 {
    let sft = &config.sft;
    let records =
        Records { tokens: data.helpful.tokens.min(sft.max_length as f64), ..data.helpful };
    rates.training(records, sft.held_out, &sft.train)
}

/// An answer to each prompt, and in each round a critique and a revision after all that was said before.
fn critique(config: &Config, data: &Data, rates: &Rates) -> f64 {
    let Records { count, tokens: prompt } = data.red_team;
    let critique = &config.critique;
    let of = |sampling: &cai_model::generate::SamplingConfig| sampling.max_new_tokens as f64;
    let (answer, revision) = (of(&critique.initial), of(&critique.revision));
    let criticism = if critique.direct { 0.0 } else { of(&critique.critique) };
    let rounds = critique.rounds as f64;
    let before = data.examples + prompt + answer + data.requests / 2.0;
    let passes = if critique.direct { before } else { 2.0 * before + criticism };
    let read = count * (prompt + rounds * passes);
    let written = count * (answer + rounds * (criticism + revision));
    rates.reading(read) + rates.writing(written, critique.batch_size)
}

/// All prompts may give a revision; helpful conversations make up their share.
fn sl_cai(config: &Config, data: &Data, rates: &Rates) -> f64 {
    let sl_cai = &config.sl_cai;
    let revision = data.red_team.tokens + config.critique.revision.max_new_tokens as f64;
    let revisions = data.red_team.count;
    let helpful = revisions * sl_cai.helpful_share / (1.0 - sl_cai.helpful_share);
    let count = revisions + helpful;
    if count == 0.0 {
        return 0.0;
    }
    let longest = sl_cai.sft.max_length as f64;
    let tokens =
        (revisions * revision.min(longest) + helpful * data.helpful.tokens.min(longest)) / count;
    rates.training(Records { count, tokens }, sl_cai.sft.held_out, &sl_cai.sft.train)
}

/// Samples of each prompt; every two compared under each principle in both orders.
fn feedback(config: &Config, data: &Data, rates: &Rates) -> f64 {
    let feedback = &config.feedback;
    let prompts = prompts(data);
    let samples = feedback.samples as f64;
    let sample = feedback.sampling.max_new_tokens as f64;
    let comparisons = samples * (samples - 1.0) / 2.0;
    let questions = prompts.count * comparisons * 2.0 * feedback.principles_per_pair as f64;
    let question = prompts.tokens + 2.0 * sample + data.requests / 2.0;
    let reasoning = if feedback.chain_of_thought { feedback.reasoning.max_new_tokens } else { 0 };
    let rows = feedback.batch_size;
    rates.reading(prompts.count * samples * prompts.tokens + questions * question)
        + rates.writing(prompts.count * samples * sample + questions * reasoning as f64, rows)
}

/// The pairs, and one pass of the reference over them. Both completions share the prompt.
fn dpo(config: &Config, data: &Data, rates: &Rates) -> f64 {
    let dpo = &config.dpo.dpo;
    let prompts = prompts(data);
    let pair = |prompt: f64, completion: usize| prompt + 2.0 * completion as f64;
    let of = |source: &PairSource| match source {
        PairSource::Feedback => {
            let comparisons = config.feedback.samples * (config.feedback.samples - 1) / 2;
            let completion = config.feedback.sampling.max_new_tokens;
            let count = prompts.count * comparisons as f64;
            Records { count, tokens: pair(prompts.tokens, completion) }
        }
        PairSource::Revision => {
            let completion = config.critique.revision.max_new_tokens;
            let tokens = pair(data.red_team.tokens, completion);
            Records { count: data.red_team.count, tokens }
        }
        PairSource::Human => data.pairs,
    };
    let pairs = config.dpo.pairs.iter().map(of).reduce(together).unwrap_or_default();
    let longest = 2.0 * dpo.max_length as f64;
    let pairs = Records { tokens: pairs.tokens.min(longest), ..pairs };
    rates.training(pairs, dpo.held_out, &dpo.train) + rates.reading(pairs.count * pairs.tokens)
}

fn evaluate(config: &Config, data: &Data, rates: &Rates) -> f64 {
    let evaluation = &config.evaluation;
    let trained = [Stage::Sft, Stage::SlCai].into_iter().filter(|s| !config.skip.contains_key(s));
    let rounds = if config.skip.contains_key(&Stage::Dpo) { 0 } else { config.dpo.rounds };
    let models = 1 + trained.count() + rounds;
    let prompts = evaluation.max_prompts.map_or(f64::INFINITY, |most| most as f64);
    let replies = (models * evaluation.samples) as f64 * data.evaluation.count.min(prompts);
    rates.reading(replies * data.evaluation.tokens)
        + rates.writing(replies * evaluation.max_new_tokens as f64, evaluation.batch_size)
}

/// The prompts of AI feedback.
fn prompts(data: &Data) -> Records {
    together(data.red_team, data.harmless)
}

fn together(a: Records, b: Records) -> Records {
    let count = a.count + b.count;
    match count > 0.0 {
        true => Records { count, tokens: (a.count * a.tokens + b.count * b.tokens) / count },
        false => Records::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(sets: &[&str]) -> Config {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/micro.yaml");
        Config::read(&path, &sets.iter().map(|set| set.to_string()).collect::<Vec<_>>()).unwrap()
    }

    fn data() -> Data {
        let records = |count, tokens| Records { count, tokens };
        Data {
            helpful: records(100.0, 50.0),
            red_team: records(10.0, 20.0),
            harmless: records(30.0, 40.0),
            pairs: records(20.0, 100.0),
            evaluation: records(60.0, 10.0),
            requests: 30.0,
            examples: 0.0,
        }
    }

    fn rates() -> Rates {
        Rates { read: 100.0, write: BTreeMap::from([(8, 10.0), (32, 20.0)]), train: 50.0 }
    }

    fn seconds(sets: &[&str], stage: Stage) -> f64 {
        let all = steps(&config(sets), &data(), &rates());
        let of = all.iter().find(|(step, _)| step.stage == stage).expect("a time");
        (of.1.as_secs_f64() * 1000.0).round() / 1000.0
    }

    #[test]
    fn times_follow_from_tokens() {
        // 90 conversations trained on and 10 evaluated twice, of 50 tokens each.
        let whole = ["sft.train.max_steps=-1", "sft.train.num_train_epochs=2"];
        assert_eq!(seconds(&whole, Stage::Sft), 180.0 * 50.0 / 50.0 + 20.0 * 50.0 / 100.0);
        // 4 steps of 8.
        assert_eq!(seconds(&[], Stage::Sft), 32.0 * 50.0 / 50.0 + 10.0);
        // 2 rounds, 8 rows: prompt 20, answer, critique and revision 48, each request 15.
        let read = 10.0 * (20.0 + 2.0 * (2.0 * 83.0 + 48.0));
        let written = 10.0 * (48.0 + 2.0 * 96.0);
        assert_eq!(seconds(&[], Stage::Critique), read / 100.0 + written / 10.0);
        // 40 prompts of 35 tokens, 2 samples, one comparison in both orders.
        let read = 80.0 * 35.0 + 80.0 * (35.0 + 96.0 + 15.0);
        assert_eq!(seconds(&[], Stage::Feedback), read / 100.0 + 80.0 * 48.0 / 10.0);
        // 4 models, 24 prompts at most, 32 rows.
        let (read, written) = (96.0 * 10.0, 96.0 * 48.0);
        assert_eq!(seconds(&[], Stage::Evaluate), read / 100.0 + written / 20.0);
    }

    #[test]
    fn more_work_takes_longer_and_stages_left_out_take_nothing() {
        for (set, stage) in [
            ("critique.rounds=3", Stage::Critique),
            ("feedback.samples=3", Stage::Feedback),
            ("feedback.chain_of_thought=true", Stage::Feedback),
            ("sl_cai.sft.train.max_steps=4", Stage::SlCai),
            ("dpo.train.max_steps=9", Stage::Dpo),
            ("evaluation.max_prompts=60", Stage::Evaluate),
        ] {
            assert!(seconds(&[set], stage) > seconds(&[], stage), "{set}");
        }
        let config = config(&["skip={feedback: none}", "dpo.pairs=[revision]"]);
        let left: Vec<String> =
            steps(&config, &data(), &rates()).iter().map(|(step, _)| step.to_string()).collect();
        assert_eq!(left, ["sft", "critique", "sl_cai", "dpo", "evaluate"]);
    }
}
